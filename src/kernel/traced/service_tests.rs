//! Lines of the calls about names, signals, files and processors.

use std::ffi::CString;

use super::tests::trace;
use super::*;
use crate::kernel::{Access, Family, FileKind};

#[test]
fn files_are_told_by_path_and_place() {
    let path = std::env::temp_dir().join(format!("machinarium traced {}", std::process::id()));
    let text = path.display().to_string();
    let path = CString::new(text.as_str()).unwrap();
    let gone = CString::new(format!("{text}.gone")).unwrap();
    let mut shown = Vec::new();
    let lines = trace(|kernel| {
        let access = Access::ReadWrite;
        let flags = OpenFlags { access, create: true, exclusive: true, ..OpenFlags::default() };
        let file = kernel.openat(&path, flags).unwrap();
        kernel.pwrite(file, b"abc", 5).unwrap();
        kernel.pread(file, &mut [0; 9], 6).unwrap();
        kernel.fsync(file).unwrap();
        kernel.fdatasync(file).unwrap();
        kernel.ftruncate(file, 7).unwrap();
        let stat = kernel.fstat(file).unwrap();
        assert_eq!((stat.size, stat.kind), (7, FileKind::File));
        kernel.rename(&path, &gone).unwrap();
        kernel.unlink(&gone).unwrap();
        kernel.unlink(&gone).unwrap_err();
        kernel.close(file).unwrap();
        shown = vec![
            format!("openat({text}, ReadWrite, CREAT, EXCL) = {file}"),
            format!("pwrite({file}, 3, 5) = 3"),
            format!("pread({file}, 9, 6) = 2"),
            format!("fsync({file}) = 0"),
            format!("fdatasync({file}) = 0"),
            format!("ftruncate({file}, 7) = 0"),
            format!("fstat({file}) = File of 7, {}", stat.modified),
            format!("rename({text}, {text}.gone) = 0"),
            format!("unlink({text}.gone) = 0"),
            format!("unlink({text}.gone) = -1 ENOENT"),
        ];
    });
    for line in shown {
        assert!(lines.contains(&line), "no {line:?} in {lines:#?}");
    }
}

#[test]
fn names_signals_and_processors_are_told() {
    let mut shown = Vec::new();
    let lines = trace(|kernel| {
        let query = Query {
            node: Some(c"127.0.0.1"),
            service: Some(c"80"),
            family: Family::Inet,
            numeric_host: true,
            ..Query::default()
        };
        kernel.getaddrinfo(&query).unwrap();
        kernel.getaddrinfo(&Query { node: Some(c"x"), ..query }).unwrap_err();
        let caught = Arc::new(Caught::new(kernel.share(kernel.eventfd(0).unwrap())));
        kernel.sigaction(Signal::Winch, SigAction::Catch, &caught).unwrap();
        kernel.kill(Signal::Winch).unwrap();
        kernel.sigaction(Signal::Winch, SigAction::Ignore, &caught).unwrap();
        kernel.sched_setaffinity(&CpuSet::EMPTY).unwrap_err();
        kernel.sched_setaffinity(&kernel.sched_getaffinity()).unwrap();
        shown = vec![
            "getaddrinfo(127.0.0.1, 80, Inet, NUMERICHOST) = [127.0.0.1:80]".to_owned(),
            "getaddrinfo(x, 80, Inet, NUMERICHOST) = EAI_NONAME".to_owned(),
            format!("sigaction(SIGWINCH, Catch, {}) = 0", caught.fd()),
            "kill(SIGWINCH) = 0".to_owned(),
            format!("sigaction(SIGWINCH, Ignore, {}) = 0", caught.fd()),
            "sched_setaffinity({}) = -1 EINVAL".to_owned(),
            format!("sched_setaffinity({:?}) = 0", kernel.sched_getaffinity()),
        ];
    });
    for line in shown {
        assert!(lines.contains(&line), "no {line:?} in {lines:#?}");
    }
}
