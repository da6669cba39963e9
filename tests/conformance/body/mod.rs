//! One body for each call of the kernel trait, and for each situation that the library relies on: straight-line scenes,
//! from the manual and from what surprised us.

mod epoll;
mod eventfd;
mod file;
mod name;
mod setup;
mod signal;
mod stream;
mod thread;
mod udp;
mod unix;
mod unix_datagram;

use crate::scene::Scene;

/// Declares a test for each body, and the list of them.
macro_rules! bodies {
    ($($file:ident: $($name:ident)*;)*) => {
        /// Every body, by name.
        pub(crate) const ALL: &[(&str, fn(&mut Scene))] = &[$($((stringify!($name), $file::$name),)*)*];

        mod both {
            $(mod $file {
                $(#[test]
                fn $name() {
                    crate::stage::check(crate::body::$file::$name);
                })*
            })*
        }
    };
}

bodies! {
    setup: socket bind listen accept4 connect getsockname getpeername getsockopt setsockopt close
        descriptors_run_out a_refused_connection_can_be_tried_again a_socket_connects_to_itself
        connections_wait_for_accept_and_die_with_their_listener a_port_in_time_wait
        reuse_port_is_asked_of_all ipv6 both_families;
    stream: read readv write recv send sendmsg shutdown data_with_fin an_urgent_byte eof_behind_a_short_read
        unread_bytes_make_close_a_reset linger_zero_resets a_full_pipe_pushes_back half_closed_and_still_talking
        an_error_is_told_once a_peer_that_is_gone;
    epoll: epoll_create1 epoll_ctl epoll_wait each_segment_is_an_edge a_partial_read_is_no_edge
        room_is_an_edge levels_take_turns one_shot exclusive instances_nest closing_forgets
        a_socket_before_and_after_connecting;
    eventfd: eventfd share a_write_to_a_readable_eventfd_is_an_edge a_full_eventfd_refuses;
    udp: recvmsg a_udp_socket_before_and_after_connecting ports_of_datagrams a_refused_datagram
        a_datagram_is_cut_off_or_too_long datagrams_of_both_families shutting_down_datagrams
        readiness_of_datagrams options_of_datagrams strange_calls_on_datagrams a_corked_datagram the_one_who_hears;
    unix: socketpair ioctl_fionread unlink names_of_sockets a_unix_connection a_full_backlog a_stale_path
        closing_a_unix_stream unread_bytes_reset_a_unix_stream shutting_down_a_unix_stream
        readiness_of_a_unix_stream a_full_unix_stream_pushes_back a_half_full_unix_stream options_of_unix_sockets
        strange_calls_on_unix_streams a_listener_that_closes descriptors_of_pairs_run_out;
    unix_datagram: unix_datagrams names_of_senders a_peer_that_closed a_full_queue_of_datagrams a_queue_that_others_have_filled
        readiness_of_unix_datagrams who_may_send reconnecting shutting_down_unix_datagrams
        strange_calls_on_unix_datagrams datagrams_to_oneself;
    thread: spawn join detach futex_wait futex_wake clock_gettime getrandom sched_yield sched_getaffinity
        sched_setaffinity process;
    file: openat pread pwrite fsync fdatasync ftruncate fstat rename unlink_of_files paths an_unlinked_file_lives_on
        a_file_has_a_position a_file_is_not_watched a_socket_has_a_file files_run_out_of_descriptors;
    signal: sigaction kill each_place_gets_each_signal what_was_caught_once_is_survived;
    name: getaddrinfo forms_of_addresses services this_host;
}

/// Each call has its body, so a new one is not forgotten.
#[test]
fn every_call_of_the_trait_has_a_body() {
    let source = include_str!("../../../src/kernel/mod.rs");
    let start = source.find("pub trait Kernel").expect("the trait");
    let end = start + source[start..].find("\n}").expect("its end");
    let methods = source[start..end].split("    fn ").skip(1);
    let names: Vec<&str> = methods.map(|text| &text[..text.find('(').expect("a method")]).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(ALL.iter().any(|body| body.0 == name), "{name} has no body");
    }
}
