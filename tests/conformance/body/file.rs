//! Files: what is written is read, how names lead to them, and what is refused.

use machinarium::kernel::{Access, Clock, EpollOp, Events, OpenFlags, SocketKind};

use crate::place::To;
use crate::scene::{Name, Scene};

const READ: OpenFlags = flags(Access::Read);
const WRITE: OpenFlags = flags(Access::Write);
const BOTH: OpenFlags = flags(Access::ReadWrite);
const NEW: OpenFlags = OpenFlags { create: true, exclusive: true, ..BOTH };
const DIRECTORY: OpenFlags = OpenFlags { directory: true, ..READ };

const fn flags(access: Access) -> OpenFlags {
    OpenFlags { access, create: false, exclusive: false, truncate: false, directory: false }
}

fn others(scene: &mut Scene) -> [Name; 3] {
    [scene.socket(), scene.eventfd(0), scene.epoll()]
}

pub(super) fn openat(scene: &mut Scene) {
    let new = scene.openat("new", NEW);
    scene.fstat(new);
    scene.openat("new", NEW);
    scene.openat("new", OpenFlags { create: true, ..READ });
    scene.openat("new", OpenFlags { exclusive: true, ..READ });
    for access in [Access::Read, Access::Write, Access::ReadWrite] {
        scene.openat("missing", flags(access));
        scene.openat("empty", flags(access));
        scene.openat("ten", flags(access));
    }
    for path in ["empty", "missing", "ten", "", "/", "empty/", ".", "full/.."] {
        scene.openat(path, DIRECTORY);
        scene.openat(path, OpenFlags { create: true, ..READ });
        scene.openat(path, OpenFlags { create: true, exclusive: true, ..READ });
        scene.openat(path, OpenFlags { truncate: true, ..READ });
    }
    scene.openat("x", OpenFlags { create: true, ..DIRECTORY });
    let ten = scene.openat("ten", READ);
    scene.fstat(ten);
}

/// How names lead to a file, or do not.
pub(super) fn paths(scene: &mut Scene) {
    let name_of = |len: usize| "n".repeat(len);
    for path in
        ["ten/", "ten/x", "ten/.", "ten/..", "full//file", "./full/./file", "full/../ten", "full/../../x"]
    {
        scene.openat(path, READ);
    }
    for path in ["no/file", "no/../ten", "full/file/", "full/file/../file", "//", "/..", "/../.."] {
        scene.openat(path, READ);
    }
    for path in ["no/file", "ten/file", "new/", "full/new", "full/./newer"] {
        scene.openat(path, OpenFlags { create: true, ..WRITE });
    }
    scene.openat(&name_of(255), NEW);
    scene.openat(&name_of(256), NEW);
    scene.openat(&format!("no/{}", name_of(256)), READ);
    scene.openat(&format!("/{}", "./".repeat(2_047)), READ);
    scene.openat(&format!("/{}.", "./".repeat(2_047)), READ);
    scene.unlink_file(&name_of(255));
}

pub(super) fn pread(scene: &mut Scene) {
    let ten = scene.openat("ten", READ);
    for (len, offset) in [(4, 0), (4, 3), (100, 7), (1, 9), (1, 10), (1, 11), (0, 0), (0, 100), (10, 1 << 40)]
    {
        scene.pread(ten, len, offset);
    }
    for offset in [1 << 63, u64::MAX, i64::MAX as u64] {
        scene.pread(ten, 1, offset);
        scene.pread(ten, 0, offset);
    }
    let write = scene.openat("ten", WRITE);
    scene.pread(write, 1, 0);
    let directory = scene.openat("empty", DIRECTORY);
    scene.pread(directory, 1, 0);
    scene.read(directory, 1);
    for other in others(scene) {
        scene.pread(other, 1, 0);
        scene.pread(other, 1, 1 << 63);
    }
    scene.close(ten);
    scene.pread(ten, 1, 0);
    scene.pread(ten, 1, 1 << 63);
}

pub(super) fn pwrite(scene: &mut Scene) {
    let new = scene.openat("new", NEW);
    for (len, offset) in [(5, 0), (5, 3), (3, 600), (0, 5_000), (1_024, 512), (1, 4_095), (2, 8_191)] {
        scene.pwrite(new, len, offset);
        scene.fstat(new);
    }
    for (len, offset) in [(600, 0), (600, 500), (3_000, 1_000), (5_000, 4_000), (9, 8_190)] {
        scene.pread(new, len, offset);
    }
    for offset in [1 << 63, u64::MAX, i64::MAX as u64, 1 << 62] {
        scene.pwrite(new, 1, offset);
        scene.pwrite(new, 0, offset);
    }
    let read = scene.openat("new", READ);
    scene.pwrite(read, 1, 0);
    let directory = scene.openat("empty", DIRECTORY);
    scene.pwrite(directory, 1, 0);
    scene.write(directory, b"x");
    for other in others(scene) {
        scene.pwrite(other, 1, 0);
    }
    scene.close(new);
    scene.pwrite(new, 1, 0);
    // Another descriptor sees what was written, and a truncation.
    scene.pread(read, 4, 6);
    scene.openat("new", OpenFlags { truncate: true, ..WRITE });
    scene.pread(read, 4, 0);
    scene.fstat(read);
}

fn each_sync(scene: &mut Scene, sync: fn(&mut Scene, Name)) {
    let new = scene.openat("new", NEW);
    scene.pwrite(new, 100, 50);
    sync(scene, new);
    sync(scene, new);
    let read = scene.openat("new", READ);
    sync(scene, read);
    let directory = scene.openat("empty", DIRECTORY);
    sync(scene, directory);
    for other in others(scene) {
        sync(scene, other);
    }
    scene.close(new);
    sync(scene, new);
    scene.pread(read, 200, 0);
}

pub(super) fn fsync(scene: &mut Scene) {
    each_sync(scene, Scene::fsync);
}

pub(super) fn fdatasync(scene: &mut Scene) {
    each_sync(scene, Scene::fdatasync);
}

pub(super) fn ftruncate(scene: &mut Scene) {
    let ten = scene.openat("ten", BOTH);
    for len in [4, 4, 700, 0, 1_000, 511] {
        scene.ftruncate(ten, len);
        scene.fstat(ten);
        scene.pread(ten, 2_000, 0);
    }
    // What was cut off is gone: what comes back is zeros.
    scene.pwrite(ten, 600, 0);
    scene.ftruncate(ten, 300);
    scene.ftruncate(ten, 600);
    scene.pread(ten, 700, 0);
    for len in [1 << 63, u64::MAX, 1 << 62] {
        scene.ftruncate(ten, len);
    }
    let read = scene.openat("ten", READ);
    scene.ftruncate(read, 1);
    let directory = scene.openat("empty", DIRECTORY);
    scene.ftruncate(directory, 0);
    for other in others(scene) {
        scene.ftruncate(other, 0);
    }
    scene.close(ten);
    scene.ftruncate(ten, 0);
    scene.ftruncate(ten, 1 << 63);
}

pub(super) fn fstat(scene: &mut Scene) {
    let directory = scene.openat("full", DIRECTORY);
    scene.fstat(directory);
    for other in others(scene) {
        scene.fstat(other);
    }
    let ten = scene.openat("ten", WRITE);
    scene.fstat(ten);
    // The time of a change lies between those around it, but for the steps of the clock that the file system looks at.
    let (kernel, fd) = (scene.kernel.clone(), scene.fd(ten));
    let now = || kernel.clock_gettime(Clock::Realtime);
    let before = now();
    scene.pwrite(ten, 1, 0);
    let written = kernel.fstat(fd).expect("a file").modified;
    let step = std::time::Duration::from_millis(20);
    scene.say(format!("changed just now: {}", written + step >= before && written <= now() + step));
    scene.close(ten);
    scene.fstat(ten);
}

pub(super) fn rename(scene: &mut Scene) {
    for (from, to) in [
        ("ten", "moved"),
        ("ten", "again"),
        ("moved", "moved"),
        ("moved", "empty"),
        ("moved", "full/file"),
        ("full/file", "no/file"),
        ("no/file", "x"),
        ("full/file/", "x"),
        ("full/file", "x/"),
        ("full/file", "full/file/x"),
        ("missing", ""),
        ("", "x"),
    ] {
        scene.rename(from, to);
    }
    let moved = scene.openat("full/file", READ);
    scene.pread(moved, 100, 0);
    for (from, to) in [
        ("empty", "full"),
        ("full", "full/inside"),
        ("full", "full/inside/x"),
        ("full", "empty"),
        ("empty", "empty/file/x"),
        ("empty/file", "empty"),
        ("empty", "full/file"),
        ("empty", "renamed/"),
        ("empty", "renamed"),
        (".", "x"),
        ("renamed", "."),
        ("renamed/..", "x"),
        ("/", "x"),
    ] {
        scene.rename(from, to);
    }
    for path in ["renamed/file", "empty/file", "full/file", "renamed"] {
        scene.openat(path, READ);
    }
    let long = "n".repeat(256);
    scene.rename("renamed/file", &long);
}

pub(super) fn unlink_of_files(scene: &mut Scene) {
    for path in ["ten", "ten", "empty", "full/file", "", "/", ".", "full/..", "no/file", "full/", "missing/"]
    {
        scene.unlink_file(path);
    }
    scene.openat("new", NEW);
    for path in ["new/", "new/x", "new", "new"] {
        scene.unlink_file(path);
    }
    let long = "n".repeat(256);
    scene.unlink_file(&long);
    scene.openat("full/file", READ);
}

/// A file without a name is there as long as it has a descriptor, and a new one of its name is another.
pub(super) fn an_unlinked_file_lives_on(scene: &mut Scene) {
    let old = scene.openat("ten", BOTH);
    scene.unlink_file("ten");
    let new = scene.openat("ten", NEW);
    scene.pwrite(old, 3, 2);
    scene.pread(old, 20, 0);
    scene.pread(new, 20, 0);
    scene.fsync(old);
    scene.close(old);
    scene.fstat(new);
    // So is one that was replaced.
    let replaced = scene.openat("full/file", READ);
    scene.rename("ten", "full/file");
    scene.pread(replaced, 20, 0);
    scene.fstat(new);
}

/// `read` and `write` go on where they were, each descriptor for itself.
pub(super) fn a_file_has_a_position(scene: &mut Scene) {
    let one = scene.openat("ten", BOTH);
    let two = scene.openat("ten", READ);
    scene.read(one, 4);
    scene.fionread(one);
    scene.write(one, b"ab");
    scene.readv(one, &[1, 0, 2]);
    scene.read(two, 100);
    scene.read(two, 100);
    scene.read(one, 100);
    scene.write(one, b"end");
    scene.read(two, 100);
    scene.pread(one, 100, 0);
    scene.read(one, 1);
    scene.ftruncate(one, 2);
    scene.fionread(one);
    let directory = scene.openat("empty", DIRECTORY);
    scene.fionread(directory);
    let write = scene.openat("ten", WRITE);
    scene.read(write, 1);
    scene.write(two, b"x");
}

/// A file is always ready, so nobody may wait for it; and it is no socket.
pub(super) fn a_file_is_not_watched(scene: &mut Scene) {
    let [ten, directory] = [scene.openat("ten", BOTH), scene.openat("empty", DIRECTORY)];
    let epoll = scene.epoll();
    for name in [ten, directory] {
        scene.add(epoll, name, Events::IN);
        scene.modify(epoll, name, Events::IN);
        scene.delete(epoll, name);
    }
    scene.add(ten, epoll, Events::IN);
    scene.add(ten, ten, Events::IN);
    let answer = scene.kernel.epoll_ctl(scene.fd(ten), EpollOp::Delete, scene.fd(directory));
    scene.say(format!("a file watched by a file: {answer:?}"));
    scene.send(ten, 1, Default::default());
    scene.getsockname(ten);
    scene.wait(ten);
}

/// Files take numbers of descriptors too, and a name that is not there is looked at later.
pub(super) fn files_run_out_of_descriptors(scene: &mut Scene) {
    scene.limit_descriptors(1);
    scene.openat("ten", READ);
    scene.openat("ten", READ);
    scene.openat("missing", READ);
    scene.openat("new", NEW);
    scene.openat("", READ);
    scene.openat("x", OpenFlags { create: true, ..DIRECTORY });
    scene.limit_descriptors(30);
    let made = scene.quietly("new", READ);
    scene.say(format!("what could not be opened was not made: {made:?}"));
}

/// What binding a Unix socket to a path makes is a file like others, but nobody opens it.
pub(super) fn a_socket_has_a_file(scene: &mut Scene) {
    let [first, second] = [scene.unix(SocketKind::Stream), scene.unix(SocketKind::Stream)];
    scene.bind(first, To::Path(7));
    scene.openat("7", READ);
    scene.openat("7", OpenFlags { create: true, ..BOTH });
    scene.openat("7", NEW);
    scene.openat("7", DIRECTORY);
    scene.openat("7/", READ);
    scene.openat("7/x", READ);
    scene.listen(first, 1);
    // It is found by its new name, and a file that takes its old one is no socket.
    scene.rename("7", "8");
    scene.connect(second, To::Path(7));
    let file = scene.openat("7", NEW);
    scene.connect(second, To::Path(7));
    scene.connect(second, To::Path(8));
    scene.fstat(file);
    let third = scene.unix(SocketKind::Stream);
    scene.bind(third, To::Path(7));
    scene.bind(third, To::Path(8));
    scene.rename("7", "8");
    scene.connect(third, To::Path(8));
    scene.bind(third, To::Path(7));
    scene.unlink_file("7");
    scene.bind(second, To::Path(7));
    scene.fionread(file);
}
