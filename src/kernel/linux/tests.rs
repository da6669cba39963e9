//! What is of `Linux` alone: conversions, fallbacks, counters, ownership. What the calls do is `tests/conformance`.

use super::*;
use crate::kernel::{Events, UnixName};

fn kernel() -> Linux {
    Linux::new()
}

fn round_trip(address: Address) -> Option<Address> {
    let (storage, len) = encode(&address);
    decode(&storage, len)
}

#[test]
fn addresses_survive_the_round_trip() {
    for text in ["127.0.0.1:80", "0.0.0.0:0", "255.254.253.252:65535", "[::1]:443", "[fe80::1%7]:9"] {
        let address = Address::Ip(text.parse().unwrap());
        assert_eq!(round_trip(address), Some(address));
    }
    let flow = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 1, 0x1234, 5);
    assert_eq!(round_trip(Address::Ip(flow.into())), Some(Address::Ip(flow.into())));
    let paths = [&b"/tmp/x"[..], &[b'a'; 107], &[b'a'; 108]].map(UnixName::path);
    let names = [&b""[..], b"\0", b"x\0", &[7; 107]].map(UnixName::abstract_name);
    for name in paths.into_iter().chain(names).chain([Ok(UnixName::UNNAMED)]) {
        let address = Address::Unix(name.unwrap());
        assert_eq!(round_trip(address), Some(address));
    }
}

/// As `getsockname` shows a path: with its zero, which a path of 108 bytes has beyond the end.
#[test]
fn a_path_ends_at_its_zero_or_at_the_end() {
    let short = Address::Unix(UnixName::path(b"abc").unwrap());
    let (storage, len) = encode(&short);
    assert_eq!(decode(&storage, len + 1), Some(short));
    let long = Address::Unix(UnixName::path(&[b'a'; 108]).unwrap());
    let (storage, len) = encode(&long);
    assert_eq!(decode(&storage, len + 1), Some(long));
}

#[test]
fn an_address_of_a_strange_family_is_an_error() {
    // SAFETY: takes no pointer.
    let fd = Fd::from_raw(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) });
    assert_eq!(kernel().getsockname(fd), Err(Errno::AFNOSUPPORT));
    kernel().close(fd).unwrap();
}

#[test]
fn a_surprise_is_counted_and_the_expected_is_not() {
    let before = |call, errno| {
        surprises().into_iter().find(|row| (row.0, row.1) == (call, errno)).map_or(0, |row| row.2)
    };
    let strange = before(Call::Listen, Errno::NOENT);
    counted(Call::Listen, Errno::NOENT);
    counted(Call::Listen, Errno::BADF);
    assert_eq!(before(Call::Listen, Errno::NOENT), strange + 1);
    assert_eq!(before(Call::Listen, Errno::BADF), 0);
    // A number beyond the table is kept in its last column.
    let huge = before(Call::Listen, Errno::from_raw(255));
    counted(Call::Listen, Errno::from_raw(4095));
    assert_eq!(before(Call::Listen, Errno::from_raw(255)), huge + 1);
}

#[test]
fn the_table_of_surprises_has_a_row_for_each_call() {
    for (index, call) in Call::ALL.into_iter().enumerate() {
        assert_eq!(call as usize, index);
    }
}

#[test]
fn durations_are_rounded_up_and_stay_too_large() {
    let kernel = kernel();
    let fd = kernel.socket(Domain::Inet, SocketKind::Stream).unwrap();
    kernel.setsockopt(fd, SocketOption::Linger(Some(Duration::from_millis(1)))).unwrap();
    let linger = kernel.getsockopt(fd, OptionName::Linger).unwrap();
    assert_eq!(linger, SocketOption::Linger(Some(Duration::from_secs(1))));
    kernel.setsockopt(fd, SocketOption::UserTimeout(Duration::from_micros(1_001))).unwrap();
    let user = kernel.getsockopt(fd, OptionName::UserTimeout).unwrap();
    assert_eq!(user, SocketOption::UserTimeout(Duration::from_millis(2)));
    assert_eq!(kernel.setsockopt(fd, SocketOption::KeepIdle(Duration::MAX)), Err(Errno::INVAL));
    kernel.close(fd).unwrap();
}

#[test]
fn the_last_reference_closes_and_a_release_gives_up() {
    let kernel = kernel();
    let dropped = kernel.eventfd(0).unwrap();
    let share = kernel.share(dropped);
    let second = share.clone();
    drop(share);
    second.wake().unwrap();
    // SAFETY: takes no pointer.
    let open = |fd: Fd| unsafe { libc::fcntl(fd.raw(), libc::F_GETFD) } != -1;
    assert!(open(dropped));

    let kept = kernel.eventfd(0).unwrap();
    let share = kernel.share(kept);
    assert_eq!((share.fd(), share.process()), (kept, kernel.process()));
    assert_eq!((share.release(), share.release()), (kept, kept));
    assert_eq!(share.wake(), Err(Errno::BADF), "the number may be a stranger's");
    drop(share);
    assert!(open(kept));
    kernel.close(kept).unwrap();
    drop(second); // that it closes is shown in tests/conformance, where nobody else takes the number meanwhile
}

#[test]
fn the_fallback_for_old_kernels_rounds_up_and_delivers() {
    let kernel = kernel();
    let (epoll, event) = (kernel.epoll_create1().unwrap(), kernel.eventfd(0).unwrap());
    kernel.epoll_ctl(epoll, EpollOp::Add(EpollEvent { events: Events::IN, data: 9 }), event).unwrap();
    let mut events = [EpollEvent::default(); 4];
    let start = kernel.clock_gettime(Clock::Monotonic);
    let limit = Duration::from_micros(1_100);
    assert_eq!(epoll_wait_millis(epoll, &mut events, Some(limit)), Ok(0));
    assert!(kernel.clock_gettime(Clock::Monotonic) - start >= Duration::from_millis(2));
    kernel.write(event, &7u64.to_ne_bytes()).unwrap();
    assert_eq!(epoll_wait_millis(epoll, &mut events, None), Ok(1));
    assert_eq!(events[0], EpollEvent { events: Events::IN, data: 9 });
    assert_eq!(epoll_wait_millis(epoll, &mut [], Some(Duration::ZERO)), Err(Errno::INVAL));
    kernel.close(epoll).unwrap();
    kernel.close(event).unwrap();
}

#[test]
fn a_thread_gets_its_name_its_processor_and_a_kernel_of_the_same_process() {
    let kernel = kernel();
    let process = kernel.process();
    let options = ThreadOptions { name: "na\0me".into(), stack_size: Some(128 << 10), cpu: Some(0) };
    let main = move |kernel: Rc<dyn Kernel>| {
        assert_eq!(thread::current().name(), Some("na me"));
        assert_eq!(kernel.sched_getaffinity(), CpuSet::EMPTY.with(0));
        assert_eq!(kernel.process(), process);
    };
    let thread = kernel.spawn(&options, Box::new(main)).unwrap();
    kernel.join(thread).unwrap();
}

#[test]
#[should_panic(expected = "is not a thread of this process")]
fn a_thread_is_joined_once() {
    let kernel = kernel();
    let thread = kernel.spawn(&ThreadOptions::default(), Box::new(|_| ())).unwrap();
    kernel.join(thread).unwrap();
    let _ = kernel.join(thread);
}

#[test]
#[should_panic(expected = "getrandom may be short above 256 bytes")]
fn getrandom_refuses_what_may_be_short() {
    kernel().getrandom(&mut [0; 257]);
}

/// One that was detached leaves nothing to be joined.
#[test]
fn a_detached_thread_is_forgotten() {
    let options = ThreadOptions { name: "left alone".to_owned(), ..ThreadOptions::default() };
    let thread = Linux::new().spawn(&options, Box::new(|_| ())).unwrap();
    Linux::new().detach(thread);
    assert!(Threads::take(thread).is_none());
}
