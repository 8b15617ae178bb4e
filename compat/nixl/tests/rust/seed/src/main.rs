// SPDX-License-Identifier: Apache-2.0
//! *Goal*: what dynamo does with a framework's cache in device memory works with the published crates,
//! unmodified, on whatever libnixl_capi.so is found: two agents wrap external device memory, register
//! it with no options, and one writes to and reads from the other, with a notification.
//! *Method*: patterns that differ at every byte, in memory that no agent allocated; what landed is
//! read back through the CUDA driver, and compared, as is what should not have changed. Status 77
//! says that there is no device memory here.

mod driver;

use anyhow::{anyhow, bail, ensure, Result};
use driver::{Driver, Pointer};
use dynamo_memory::nixl::{
    register_with_nixl, Agent, MemType, NixlAgent, NixlRegistered, NotificationMap, OptArgs,
    RegisteredView, XferDescList, XferOp,
};
use dynamo_memory::ExternalDeviceMemory;
use std::time::{Duration, Instant};

const BLOCK_BYTES: usize = 64 << 10;
const BLOCKS: usize = 16;
const BYTES: usize = BLOCKS * BLOCK_BYTES;
const LIMIT: Duration = Duration::from_secs(30);
const SKIPPED: i32 = 77;

fn pattern(seed: usize) -> Vec<u8> {
    (0..BYTES).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 7) as u8 ^ seed as u8).collect()
}

/// A framework's memory: somebody else's allocation, of which dynamo knows address and size.
fn wrap(pointer: Pointer, agent: &NixlAgent) -> Result<NixlRegistered<ExternalDeviceMemory>> {
    // SAFETY: the memory is given back after all registrations of it are gone.
    let external = unsafe { ExternalDeviceMemory::new(pointer as *const u8, BYTES, 0) };

    register_with_nixl(external, &agent, None)
        .map_err(|memory| anyhow!("{memory:?} could not be registered"))
}

/// Every other block of that memory, from the first or from the second.
fn every_other_block(
    memory: &NixlRegistered<ExternalDeviceMemory>,
    first: usize,
) -> Result<XferDescList<'static>> {
    let descriptor = memory.descriptor();
    let mut list = XferDescList::new(MemType::Vram)?;

    for block in (first..BLOCKS).step_by(2) {
        list.add_desc(
            descriptor.addr as usize + block * BLOCK_BYTES,
            BLOCK_BYTES,
            descriptor.device_id,
        );
    }
    Ok(list)
}

fn transfer(
    agent: &Agent,
    operation: XferOp,
    local: &XferDescList,
    remote: &XferDescList,
    peer: &str,
    tag: &[u8],
) -> Result<()> {
    let mut options = OptArgs::new()?;
    options.set_notification_message(tag)?;
    options.set_has_notification(true)?;
    let request = agent.create_xfer_req(operation, local, remote, peer, Some(&options))?;
    let end = Instant::now() + LIMIT;

    if agent.post_xfer_req(&request, None)? {
        while !agent.get_xfer_status(&request)?.is_success() {
            ensure!(Instant::now() < end, "the transfer is not over after {LIMIT:?}");
        }
    }
    Ok(())
}

fn expect_notification(agent: &Agent, sender: &str, message: &[u8]) -> Result<()> {
    let end = Instant::now() + LIMIT;
    let mut map = NotificationMap::new()?;

    while map.is_empty()? {
        ensure!(Instant::now() < end, "no notification after {LIMIT:?}");
        agent.get_notifications(&mut map, None)?;
    }
    ensure!(map.get_notifications_size(sender)? == 1, "not one notification of {sender}");
    ensure!(map.get_notification_bytes(sender, 0)? == message, "not the notification of {sender}");
    Ok(())
}

/// The library that was loaded by its bare name, as the kernel knows it.
fn library() -> Result<String> {
    std::fs::read_to_string("/proc/self/maps")?
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .find(|path| path.contains("libnixl_capi.so"))
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("no libnixl_capi.so in this process"))
}

/// Of what was at the places of odd blocks, nothing is left; all else is as it was.
fn expect_odd_blocks(seen: &[u8], landed: &[u8], kept: &[u8]) -> Result<()> {
    for block in 0..BLOCKS {
        let bytes = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
        let wanted = if block % 2 == 1 {
            &landed[bytes.start - BLOCK_BYTES..bytes.end - BLOCK_BYTES]
        } else {
            &kept[bytes.clone()]
        };
        ensure!(&seen[bytes] == wanted, "block {block} holds other bytes than it should");
    }
    Ok(())
}

fn run(driver: &Driver, pointers: [Pointer; 2]) -> Result<()> {
    let (ours, theirs) = (pattern(1), pattern(2));
    driver.write(pointers[0], &ours)?;
    driver.write(pointers[1], &theirs)?;

    let agent = NixlAgent::with_backends("first", &["UCX"])?;
    let peer = NixlAgent::with_backends("second", &["UCX"])?;
    let memory = wrap(pointers[0], &agent)?;
    let peer_memory = wrap(pointers[1], &peer)?;
    println!("library: {}", library()?);
    ensure!(agent.load_remote_md(&peer.get_local_md()?)? == "second", "the peer has another name");

    // The even blocks of one to the odd ones of the other.
    let local = every_other_block(&memory, 0)?;
    let remote = every_other_block(&peer_memory, 1)?;
    transfer(&agent, XferOp::Write, &local, &remote, "second", b"written")?;
    expect_notification(&peer, "first", b"written")?;
    expect_odd_blocks(&driver.read(pointers[1], BYTES)?, &ours, &theirs)?;
    println!("WRITE: {BLOCKS} blocks of device memory are as they should be");

    // And the even ones back, to where odd ones were.
    driver.write(pointers[1], &theirs)?;
    let local = every_other_block(&memory, 1)?;
    let remote = every_other_block(&peer_memory, 0)?;
    transfer(&agent, XferOp::Read, &local, &remote, "second", b"read")?;
    expect_notification(&peer, "first", b"read")?;
    expect_odd_blocks(&driver.read(pointers[0], BYTES)?, &theirs, &ours)?;
    println!("READ: {BLOCKS} blocks of device memory are as they should be");
    Ok(())
}

fn main() -> Result<()> {
    let driver = match Driver::open(0) {
        Ok(driver) => driver,
        Err(error) => {
            println!("SKIP: no device memory here: {error:#}");
            std::process::exit(SKIPPED);
        }
    };
    println!("device memory: {}", if driver.is_fake() { "fake" } else { "of a GPU" });
    let pointers = [driver.allocate(BYTES)?, driver.allocate(BYTES)?];
    let result = run(&driver, pointers);

    for pointer in pointers {
        driver.free(pointer)?;
    }
    if let Err(error) = result {
        bail!("{error:#}");
    }
    Ok(())
}
