# SPDX-License-Identifier: Apache-2.0
"""Goal: the kernel's text (src/memory/kernel_ptx.c) copies every byte of every piece
once, and touches no other, whatever the lengths, the alignment and the size of the grid.

Method: what it is written in is carried out here, instruction by instruction and thread by thread,
as far as the kernel uses it; an instruction that is not known here fails the test. Its memory has
the pieces' sources, their places and the table, and nothing else: any other address fails, as does
a load or store that is not aligned to its width. No thread waits for another, so that they can be
carried out one after the other. Afterwards each place has what memcpy() would have left there. Of
registers and of types nothing is checked: that is the assembler's, and a GPU's, to say.
"""
import random
import re
import struct
import sys

ROW_BYTES = 24
SEED = 20260


def text_of(path):
    with open(path, encoding="utf-8") as file:
        source = file.read().split("lend_kernel_ptx[] =")[1]
    source = re.sub(r"/\*.*?\*/", "", source, flags=re.S)
    return "".join(re.findall(r'"([^"]*)"', source)).replace("\\n", "\n")


class Memory:
    """Pieces of memory that lie apart, by the address of each."""

    def __init__(self):
        self.pieces = []
        self.stored = set()

    def add(self, address, content):
        self.pieces.append((address, bytearray(content)))
        return self.pieces[-1][1]

    def at(self, address, count):
        assert address % count == 0, f"{count} bytes at {address:#x} are not aligned"
        for start, content in self.pieces:
            if start <= address and address + count <= start + len(content):
                return content, address - start
        raise AssertionError(f"{count} bytes at {address:#x} are nobody's")

    def load(self, address, count):
        content, offset = self.at(address, count)
        return int.from_bytes(content[offset:offset + count], "little")

    def store(self, address, count, value):
        content, offset = self.at(address, count)
        bytes_of = set(range(address, address + count))
        assert not self.stored & bytes_of, f"{count} bytes at {address:#x} are stored twice"
        self.stored |= bytes_of
        content[offset:offset + count] = value.to_bytes(count, "little")


class Kernel:
    """The text, taken apart once."""

    def __init__(self, text):
        head, body = text.split("{", 1)
        self.parameters = re.findall(r"\.param (\.u\d+) (\w+)", head)
        self.name = re.search(r"\.entry (\w+)\(", head).group(1)
        self.registers, self.labels, self.code = {}, {}, []
        for line in body.rsplit("}", 1)[0].splitlines():
            line = line.strip()
            if line.endswith(":"):
                self.labels[line[:-1]] = len(self.code)
            elif line.startswith(".reg"):
                kind, names = line.rstrip(";").split(None, 2)[1:]
                self.registers.update((name.strip(), kind) for name in names.split(","))
            elif line:
                self.code.append(self.take_apart(line))

    @staticmethod
    def take_apart(line):
        guard, operation, operands = re.fullmatch(r"(?:@(!?\w+) )?(\S+?)(?: (.*))?;", line).groups()
        return guard, operation, re.findall(r"\{[^}]*\}|\[[^]]*\]|[^\s,]+", operands or "")


class Thread:
    """One thread of a launch."""

    def __init__(self, kernel, memory, arguments, special):
        self.kernel, self.memory = kernel, memory
        self.arguments, self.special = arguments, special
        self.values = {}

    def value(self, operand):
        if operand in self.special:
            return self.special[operand]
        if re.fullmatch(r"-?\d+", operand):
            return int(operand)
        return self.values[operand]

    def set(self, register, value):
        kind = self.kernel.registers[register]
        self.values[register] = value if kind == ".pred" else value % (1 << int(kind[2:]))

    def address(self, operand):
        base, offset = re.fullmatch(r"\[(\w+)(?:\+(\d+))?\]", operand).groups()
        return self.value(base) + int(offset or 0)

    def move(self, operation, operands):
        """ld.global and st.global, of one number or of four."""
        way, _, *shape = operation.split(".")
        count = int(shape[-1][1:]) // 8
        place, names = operands[::-1] if way == "ld" else operands
        address = self.address(place)
        names = [name.strip() for name in names.strip("{}").split(",")]
        assert len(names) == (int(shape[0][1:]) if len(shape) == 2 else 1), operation
        self.memory.at(address, count * len(names))  # all of it at once, and aligned
        for i, name in enumerate(names):
            if way == "ld":
                self.set(name, self.memory.load(address + i * count, count))
            else:
                value = self.value(name) % (1 << 8 * count)
                self.memory.store(address + i * count, count, value)

    def compute(self, operation, operands):
        target, *rest = operands
        a, b, c = ([self.value(operand) for operand in rest] + [0, 0])[:3]
        name, *kinds = operation.split(".")
        width = int(re.sub(r"\D", "", kinds[-1]))
        results = {
            "mov": lambda: a, "cvt": lambda: a, "cvta": lambda: a, "neg": lambda: -a,
            "add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b,
            "mad": lambda: a * b + c, "and": lambda: a & b, "xor": lambda: a ^ b,
            "shr": lambda: a >> b, "min": lambda: min(a, b), "selp": lambda: a if c else b,
            "setp": lambda: {"ge": a >= b, "lt": a < b, "ne": a != b}[kinds[0]],
        }
        if "wide" not in kinds and name != "setp":
            assert self.kernel.registers[target][2:] == str(64 if name == "cvta" else width) or \
                name == "cvt", operation
        self.set(target, results[name]())

    def run(self):
        at, steps = 0, 0
        while True:
            guard, operation, operands = self.kernel.code[at]
            at, steps = at + 1, steps + 1
            assert steps < 1_000_000, "it does not come to an end"
            if guard and bool(self.value(guard.lstrip("!"))) == guard.startswith("!"):
                continue
            if operation == "ret":
                return
            if operation == "bra":
                at = self.kernel.labels[operands[0]]
            elif operation.startswith("ld.param"):
                self.set(operands[0], self.arguments[operands[1].strip("[]")])
            elif operation.startswith(("ld.global", "st.global")):
                self.move(operation, operands)
            else:
                self.compute(operation, operands)


def launch(kernel, memory, blocks, threads, *arguments):
    given = {name: value for (_, name), value in zip(kernel.parameters, arguments)}
    for block in range(blocks):
        for thread in range(threads):
            Thread(kernel, memory, given, {
                "%tid.x": thread, "%ntid.x": threads, "%ctaid.x": block, "%nctaid.x": blocks,
            }).run()


def copy(kernel, dice, pieces, blocks, threads=128):
    """Pieces are (bytes, alignment of the source, alignment of the place)."""
    memory, table, wanted = Memory(), b"", []
    for number, (count, source, place) in enumerate(pieces):
        there, here = (0x7000_0000_0000 + (number << 20) + source,
                       0x5000_0000_0000 + (number << 20) + place)
        content = dice.randbytes(count)
        memory.add(there, content)
        wanted.append((memory.add(here, bytes(count)), content))
        table += struct.pack("<QQQ", here, there, count)
    memory.add(0x1_0000, table)
    launch(kernel, memory, blocks, threads, 0x1_0000, len(pieces))
    for number, ((found, content), piece) in enumerate(zip(wanted, pieces)):
        assert found == content, f"piece {number} of {piece} is not as it was"


def main(path):
    kernel, dice = Kernel(text_of(path)), random.Random(SEED)
    assert kernel.name == "lend_copy_pieces", kernel.name
    assert [kind for kind, _ in kernel.parameters] == [".u64", ".u32"], kernel.parameters
    # Around everything that it counts in: bytes, 16, a warp's 512, and four of those.
    lengths = [0, 1, 15, 16, 17, 31, 32, 33, 511, 512, 513, 2047, 2048, 2049, 2064, 4096, 4113]
    copy(kernel, dice, [(count, 0, 0) for count in lengths], 5)
    for skew in range(16):
        copy(kernel, dice, [(dice.choice(lengths), skew, skew) for _ in range(3)], 1)
        copy(kernel, dice, [(dice.randrange(600), skew, dice.randrange(16))], 1, threads=32)
    # More warps than pieces, as many, and fewer, so that each takes several.
    for blocks in (1, 2, 7):
        copy(kernel, dice, [(dice.randrange(900), dice.randrange(32), dice.randrange(32))
                            for _ in range(13)], blocks)
    copy(kernel, dice, [(16384, 0, 0), (16384, 48, 48), (16383, 5, 5)], 1)
    copy(kernel, dice, [], 1)
    print("pieces copied as memcpy() would")


main(sys.argv[1])
