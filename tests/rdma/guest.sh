#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the virtual machine of vm.py. Its environment is what the kernel's command line says:
#   run      the folder that the host shares for writing; its steps are run, in their order
#   devices  how many RDMA devices there are, 1 or 2
#   loss     how many packets in a hundred the link between two of them loses
# A step is a shell script. STEP.out, STEP.err and STEP.status tell the host what came of it.

/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin

leave() {
    echo "guest: $*"
    poweroff -f
    sleep 60 # until the machine is off
}

# The machine's own root, read-only, under a layer that goes with the guest.
mount_root() {
    for module in /modules/*; do
        insmod "$module" || leave "no module $module"
    done
    mkdir -p /below /layer /new /sys
    mount -t sysfs sysfs /sys
    mount -t devtmpfs devtmpfs /dev
    mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose root /below ||
        leave "no root over 9p"
    mount -t tmpfs -o size=80% layer /layer
    mkdir /layer/upper /layer/work
    mount -t overlay -o lowerdir=/below,upperdir=/layer/upper,workdir=/layer/work overlay /new ||
        leave "no overlay"
    mkdir -p /dev/shm /dev/pts
    mount -t tmpfs -o mode=1777 shm /dev/shm
    mount -t devpts devpts /dev/pts
    ln -s /proc/self/fd /dev/fd
    for folder in dev dev/shm dev/pts proc sys; do
        mount -o bind "/$folder" "/new/$folder"
    done
    mount -t tmpfs -o mode=755 run /new/run
    mkdir -p "/new$run"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=none run "/new$run" ||
        leave "no $run over 9p"
}

# Both ends of a link in one network namespace: the kernel would send from one to the other over
# lo, where no RDMA device is, so what is sent here looks into tables of ours before it may find
# the other address to be local. The neighbours are told, so that no lost packet delays them.
join_link() {
    ip link add lend0 address 02:00:00:00:00:01 mtu 9000 type veth \
        peer name lend1 address 02:00:00:00:00:02 mtu 9000
    for end in 0 1; do
        own=192.0.2.$((end + 1)) other=192.0.2.$((2 - end))
        ip addr add "$own/24" dev "lend$end"
        ip link set "lend$end" up
        ip neigh add "$other" lladdr "02:00:00:00:00:0$((2 - end))" dev "lend$end"
        ip route add "$other" dev "lend$end" src "$own" table "10$end"
        ip rule add pref 10 iif lo from "$own" to "$other" lookup "10$end"
        echo 1 >"/proc/sys/net/ipv4/conf/lend$end/accept_local"
        echo 0 >"/proc/sys/net/ipv4/conf/lend$end/rp_filter"
        [ "$loss" = 0 ] || tc qdisc add dev "lend$end" root netem limit 100000 loss "$loss%"
    done
    ip rule add pref 20 lookup local
    ip rule del pref 0
}

make_devices() {
    # A long READ is answered in one burst, which is not to be dropped on the way.
    echo 100000 >/proc/sys/net/core/netdev_max_backlog
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    ip link set lo up
    if [ "$devices" = 2 ]; then
        join_link
    else
        ip link add lend0 mtu 9000 type dummy
        ip addr add 192.0.2.1/24 dev lend0
        ip link set lend0 up
    fi
    for end in 0 1; do
        [ "$end" -ge "$devices" ] || rdma link add "rxe$end" type rxe netdev "lend$end" ||
            leave "no device rxe$end"
    done
}

# The machine's own, not busybox's.
for tool in ip rdma tc; do
    eval "$tool() { chroot /new /usr/bin/env $tool \"\$@\"; }"
done
mount_root
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
make_devices
ulimit -l unlimited
echo >"/new$run/started"
for step in "/new$run"/*.step; do
    chroot /new /bin/sh "${step#/new}" >"$step.out" 2>"$step.err" </dev/null
    echo $? >"$step.status"
    kill -KILL -1 # what it has left behind; process 1 is spared
done
leave "all steps are done"
