"""Coroutines of machinarium in gdb: of a process that gdb has stopped, or of a core.

    (gdb) source gdb.py
    (gdb) info coroutines                   all of all machines
    (gdb) coroutine 7 bt                    any command, in coroutine 7 of the only machine that has one
    (gdb) coroutine 1.7 bt                  in coroutine 7 of machine 1
    (gdb) coroutine all bt 4                in each

Within a command, frame 1 and those above it are the coroutine's; frame 0 is what the thread really executes, and `bt` leaves it out.
Nothing of the process is changed: an unwinder says that frame 0 was called by the suspended coroutine.

It needs the symbols of the program, and no debug information of the library: src/machine/debugger.rs has the table that is read here.
"""

import re
import struct
import time

import gdb
import gdb.unwinder

TABLE = "machinarium::machine::debugger::TABLE"
VERSION = 1
STATES = {0: "free", 1: "ready", 2: "parked", 3: "finished"}
FAR = 2**64 - 1
# What a context holds, in its order; the stack pointer and the program counter are first (src/coroutine/arch).
REGISTERS = {
    "i386:x86-64": ("rsp", "rip", "rbx", "rbp"),
    "aarch64": ("sp", "pc", "x19", "x29"),
}


def read(address, size):
    return gdb.selected_inferior().read_memory(address, size).tobytes()


def words(address, count):
    return struct.unpack("<%dQ" % count, read(address, 8 * count))


def text(address, length):
    return read(address, length).decode("utf-8", "replace") if address and length else ""


def registers():
    name = gdb.selected_inferior().architecture().name()
    if name not in REGISTERS:
        raise gdb.GdbError("machinarium does not run on %s" % name)
    return REGISTERS[name]


def find_table():
    symbol = gdb.lookup_static_symbol(TABLE) or gdb.lookup_global_symbol(TABLE)
    if symbol:
        return int(symbol.value().address)
    # Without debug information, gdb knows it by a name that ends with a hash.
    listed = gdb.execute("info variables ^%s" % TABLE, to_string=True)
    match = re.search("(0x[0-9a-f]+)  %s" % TABLE, listed)
    if not match:
        raise gdb.GdbError("no machinarium in this program, or its symbols were stripped")
    return int(match.group(1), 16)


class Table:
    """Where things are in this program."""

    def __init__(self):
        values = words(find_table(), 20)
        if values[0] != VERSION:
            raise gdb.GdbError(
                "this script reads version %d, and the program has %d: take the script of its machinarium" % (VERSION, values[0])
            )
        self.slabs, self.begin = values[1:3]
        self.base, self.rest, self.next, self.used, self.owner = values[3:8]
        self.context, self.low, self.high, self.id, self.name_len, self.name = values[8:14]
        self.state, self.deadline, self.reason, self.what, self.number = values[14:19]
        self.control_size = values[19]

    def entries(self):
        """The slabs that coroutines of machines are on, and the stacks that simulated threads stand on."""
        (entry,) = words(self.slabs, 1)
        while entry:
            (base,) = words(entry + self.base, 1)
            if base > 1:
                yield Slab(self, entry, base)
            (entry,) = words(entry + self.next, 1)


class Slab:
    def __init__(self, table, entry, base):
        self.table, self.base = table, base
        slots, self.first, guard, size, self.control, self.big = words(entry + table.rest, 6)
        (used,) = words(entry + table.used, 1)
        (self.owner,) = words(entry + table.owner, 1)
        self.stride = guard + size
        self.used = min(used, slots)

    def headers(self):
        """As src/coroutine/slab.rs: the control block moves by a cache line from slot to slot."""
        colours = max((4096 - 2048 - self.control) // 64, 1)
        for place in range(self.used):
            index = self.first + place
            yield self.base + (place + 1) * self.stride - self.control - index % colours * 64


class Coroutine:
    """What a control block says."""

    def __init__(self, table, slab, header):
        block = read(header, table.control_size if slab.owner else 128)
        word = lambda at: struct.unpack_from("<Q", block, at)[0]
        self.context = struct.unpack_from("<4Q", block, table.context)
        self.low, self.high, self.id = word(table.low), word(table.high), word(table.id)
        length = min(block[table.name_len], 67)
        self.name = block[table.name : table.name + length].decode("utf-8", "replace")
        self.begun = self.context[1] != table.begin
        self.thread = None
        self.owner, self.machine, self.machine_name = slab.owner, None, ""
        self.group = self.label = ""
        self.state, self.waits_for, self.deadline = "suspended", "", FAR
        if slab.owner:
            number, name, length = words(slab.owner, 3)
            self.machine, self.machine_name = number, text(name, length)
            self.state = STATES.get(block[table.state], "?")
            self.deadline = word(table.deadline)
            self.waits_for = self.reason(table, block)

    @staticmethod
    def reason(table, block):
        address, length = struct.unpack_from("<2Q", block, table.reason + table.what)
        (number,) = struct.unpack_from("<q", block, table.reason + table.number)
        what = text(address, length)
        return what if number == -1 else "%s %d" % (what, number)

    def lives(self):
        return self.id != 0 and self.state in ("ready", "parked", "suspended")

    def holds(self, stack_pointer):
        return self.low <= stack_pointer <= self.high



def coroutines():
    if gdb.selected_thread() is None:
        raise gdb.GdbError("the program does not run, and there is no core of it")
    table = Table()
    found = []
    for slab in table.entries():
        if not slab.big:
            found += [Coroutine(table, slab, header) for header in slab.headers()]
    found = [coroutine for coroutine in found if coroutine.lives()]
    place_threads(found)
    place_contexts(found)
    found.sort(key=lambda coroutine: (coroutine.machine is None, coroutine.machine, coroutine.owner, coroutine.id))
    label(found)
    return found


def label(found):
    """By the numbers of machine and coroutine; in a simulated world, where each process has a machine 0, these are 0#1, 0#2, and so
    on, and simulated threads are t1, t2."""
    owners, threads = {}, 0
    for coroutine in found:
        owners.setdefault(coroutine.machine, {}).setdefault(coroutine.owner, None)
    for coroutine in found:
        if coroutine.machine is None:
            threads += 1
            coroutine.label = "t%d" % threads
            continue
        same = list(owners[coroutine.machine])
        which = "" if len(same) == 1 else "#%d" % (same.index(coroutine.owner) + 1)
        coroutine.group = "%d%s" % (coroutine.machine, which)
        coroutine.label = "%s.%d" % (coroutine.group, coroutine.id)


def place_threads(found):
    """Whose stack pointer is in a stack runs there: what its control block says is of the last time that it did not run."""
    here = gdb.selected_thread()
    frame = gdb.selected_frame() if here else None
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        stack_pointer = int(gdb.newest_frame().read_register(registers()[0]))
        for coroutine in found:
            if coroutine.holds(stack_pointer):
                coroutine.thread, coroutine.state = thread, "running"
    if here:
        here.switch()
        frame.select()


def place_contexts(found):
    """A simulated thread that is suspended in a call stands on the stack of the coroutine that called: that is where this one is."""
    threads = [coroutine for coroutine in found if coroutine.machine is None]
    for thread in threads:
        for coroutine in found:
            if coroutine is not thread and coroutine.holds(thread.context[0]) and not thread.holds(thread.context[0]):
                coroutine.context, coroutine.begun, coroutine.state = thread.context, True, "in a call"


class Caller(gdb.unwinder.Unwinder):
    """Says that the innermost frame was called by a suspended coroutine."""

    def __init__(self):
        super().__init__("machinarium")
        self.context = None

    def __call__(self, pending):
        if self.context is None:
            return None
        names = registers()
        stack_pointer, counter = (pending.read_register(name) for name in names[:2])
        if (int(stack_pointer), int(counter)) != self.innermost:
            return None
        # Whose stack pointer were above its caller's would end the backtrace.
        unwound = pending.create_unwind_info(FrameId(gdb.Value(self.context[0] - 8).cast(stack_pointer.type), counter))
        for name, value in zip(names, self.context):
            unwound.add_saved_register(name, gdb.Value(value).cast(pending.read_register(name).type))
        return unwound

    def enter(self, coroutine):
        frame = gdb.newest_frame()
        self.innermost = tuple(int(frame.read_register(name)) for name in registers()[:2])
        self.context = coroutine.context
        gdb.invalidate_cached_frames()
        gdb.newest_frame().older().select()

    def leave(self):
        self.context = None
        gdb.invalidate_cached_frames()


class FrameId:
    def __init__(self, stack_pointer, counter):
        self.sp, self.pc = stack_pointer, counter


class WithoutTheThread:
    """Leaves frame 0 out of backtraces in a suspended coroutine."""

    name, enabled, priority = "machinarium", True, 100

    def filter(self, frames):
        if caller.context is not None:
            next(frames, None)
        return frames


class InfoCoroutines(gdb.Command):
    """Lists the coroutines of all machines: what each does, what it waits for, and until when."""

    def __init__(self):
        super().__init__("info coroutines", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        found, owner = coroutines(), None
        # Deadlines of a simulated world are of its own time, and those of a core of a time that is over.
        simulated = any(coroutine.machine is None for coroutine in found)
        now = None if simulated or is_core() else time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        for coroutine in found:
            if owner != coroutine.owner:
                owner = coroutine.owner
                print("machine %s '%s'" % (coroutine.group, coroutine.machine_name) if owner else "simulated threads")
            print("  %-8s %-20s %s" % (coroutine.label, coroutine.name or "-", does(coroutine, now)))


def does(coroutine, now):
    words = [coroutine.state]
    if coroutine.thread:
        words.append("thread %d" % coroutine.thread.num)
    elif coroutine.state == "parked":
        words.append(coroutine.waits_for)
        if coroutine.deadline != FAR:
            words.append(until(coroutine.deadline, now))
    elif not coroutine.begun:
        words.append("has not begun")
    return ", ".join(words)


def until(deadline, now):
    if now is None:
        return "until %.3f s of its clock" % (deadline / 1e9)
    left = (deadline - now) / 1e9
    return "%.3f s left" % left if left >= 0 else "over since %.3f s" % -left


def is_core():
    target = gdb.execute("info target", to_string=True)
    return "core file" in target.lower()


class InCoroutine(gdb.Command):
    """Runs a command in a coroutine: coroutine ID|MACHINE.ID|all COMMAND"""

    def __init__(self):
        super().__init__("coroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        which, _, command = argument.strip().partition(" ")
        if not command:
            raise gdb.GdbError("which coroutine, and what there? As in: coroutine 7 bt")
        for coroutine in chosen(which):
            if which == "all":
                print("coroutine %s '%s': %s" % (coroutine.label, coroutine.name, does(coroutine, None)))
            run_in(coroutine, command)


def chosen(which):
    found = coroutines()
    if which == "all":
        return found
    named = [coroutine for coroutine in found if which in (coroutine.label, str(coroutine.id))]
    exact = [coroutine for coroutine in named if coroutine.label == which]
    named = exact or named
    if not named:
        raise gdb.GdbError("no coroutine %s: see info coroutines" % which)
    if len(named) > 1:
        labels = ", ".join(coroutine.label for coroutine in named)
        raise gdb.GdbError("coroutine %s is one of several machines': %s" % (which, labels))
    return named


def run_in(coroutine, command):
    thread = gdb.selected_thread()
    frame = gdb.selected_frame()
    level, running = frame.level(), coroutine.thread
    try:
        if running:
            running.switch()
        elif not coroutine.begun:
            print("it has not begun, and has no frames")
            return
        else:
            caller.enter(coroutine)
        gdb.execute(command)
    finally:
        caller.leave()
        thread.switch()
        gdb.execute("frame %d" % level, to_string=True)


caller = Caller()
gdb.unwinder.register_unwinder(None, caller, replace=True)
gdb.frame_filters["machinarium"] = WithoutTheThread()
InfoCoroutines()
InCoroutine()
