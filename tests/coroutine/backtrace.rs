//! A backtrace taken on a coroutine's stack ends at its base: std's unwinder and gdb both say so.

use std::cell::RefCell;
use std::process::Command;
use std::rc::Rc;

use crate::child::{VARIABLE, command, emulator, said};
use crate::strand::{Strand, Yielder};
use crate::switch::pool;

#[inline(never)]
fn descend(depth: u32, at_the_end: &mut dyn FnMut()) {
    if depth > 0 {
        descend(depth - 1, at_the_end);
    } else {
        at_the_end();
    }
    std::hint::black_box(depth);
}

/// Before the first pause, and after it: when the saved program counter has been used.
#[test]
fn std_ends_at_the_base() {
    let traces = Rc::new(RefCell::new(Vec::new()));
    let inner = traces.clone();
    let strand = Strand::new(&pool(), move |yielder: &Yielder| {
        let mut capture = || {
            inner.borrow_mut().push(std::backtrace::Backtrace::force_capture().to_string());
            yielder.pause();
            inner.borrow_mut().push(std::backtrace::Backtrace::force_capture().to_string());
        };
        descend(5, &mut capture);
    });
    while strand.resume() {}
    assert_eq!(traces.borrow().len(), 2);
    for trace in traces.borrow().iter() {
        let frames: Vec<&str> = trace.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
        assert!(frames.last().unwrap().ends_with("::base"), "{trace}");
        assert!(frames.iter().filter(|frame| frame.contains("descend")).count() >= 5, "{trace}");
        assert!(!trace.contains("std_ends_at_the_base\n"), "nothing of who resumed it: {trace}");
    }
}

const GDB: &str = "backtrace::gdb_ends_at_the_base";

#[test]
fn gdb_ends_at_the_base() {
    if std::env::var(VARIABLE).as_deref() == Ok(GDB) {
        let strand = Strand::new(&pool(), |yielder| {
            yielder.pause();
            // SAFETY: raises SIGTRAP, for the debugger.
            descend(5, &mut || unsafe { assert_eq!(libc::raise(libc::SIGTRAP), 0) });
        });
        while strand.resume() {}
        return;
    }
    if emulator().is_some() {
        return println!("skipped: gdb sees the emulator");
    }
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "run", "-ex", "bt", "--args"]);
    gdb.arg(std::env::current_exe().unwrap());
    let Ok(output) = command(gdb, GDB).output() else { return println!("skipped: no gdb here") };
    let text = said(&output);
    if text.contains("ptrace: Operation not permitted") {
        return println!("skipped: gdb may not trace here");
    }
    let frames: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert!(frames.iter().filter(|frame| frame.contains("descend")).count() >= 5, "{text}");
    assert!(frames.last().unwrap().contains("::base::"), "{text}");
    assert!(!text.contains("Backtrace stopped") && !text.contains("corrupt"), "{text}");
}
