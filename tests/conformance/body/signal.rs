//! Signals: who asked is told, once for each place that asked. Only those that harm nobody, and only after they are caught.

use std::sync::Arc;
use std::time::Duration;

use machinarium::kernel::{Caught, Events, SigAction, Signal, SignalSet};

use crate::scene::{Name, Scene};

/// Where signals are noted, and the name of its eventfd.
fn place(scene: &mut Scene) -> (Arc<Caught>, Name) {
    let event = scene.eventfd(0);
    let wake = scene.kernel.share(scene.fd(event));
    (Arc::new(Caught::new(wake)), event)
}

fn act(scene: &mut Scene, signal: Signal, action: SigAction, caught: &Arc<Caught>) {
    let answer = scene.kernel.sigaction(signal, action, caught);
    scene.say(format!("sigaction({signal}, {action:?}) = {answer:?}"));
}

fn send(scene: &mut Scene, signal: Signal) {
    let answer = scene.kernel.kill(signal);
    scene.say(format!("kill({signal}) = {answer:?}"));
}

/// What is noted within a second. Which thread handles a signal, and when, is not said.
fn told(scene: &mut Scene, caught: &Caught, expected: SignalSet) {
    let mut set = SignalSet::EMPTY;
    for _ in 0..1_000 {
        set = caught.take().iter().fold(set, SignalSet::with);
        if set == expected {
            break;
        }
        scene.sleep(Duration::from_millis(1));
    }
    assert_eq!(set, expected, "the same code notes on both kernels, so it is not enough that they agree");
    scene.say(format!("caught {set:?}"));
}

/// The descriptor goes with the last reference: the scene is not to close it.
fn end(scene: &mut Scene, caught: Arc<Caught>, event: Name) {
    drop(caught);
    scene.forget(event);
}

fn one(signal: Signal) -> SignalSet {
    SignalSet::EMPTY.with(signal)
}

pub(super) fn sigaction(scene: &mut Scene) {
    let (caught, event) = place(scene);
    scene.say(format!("its own: {}", caught.fd() == scene.fd(event)));
    act(scene, Signal::Usr1, SigAction::Ignore, &caught);
    act(scene, Signal::Usr1, SigAction::Catch, &caught);
    act(scene, Signal::Usr1, SigAction::Catch, &caught);
    act(scene, Signal::Usr2, SigAction::Catch, &caught);
    told(scene, &caught, SignalSet::EMPTY);
    send(scene, Signal::Usr1);
    told(scene, &caught, one(Signal::Usr1));
    // Asked for twice, it is told once.
    readable(scene, event);
    scene.read(event, 8);
    scene.read(event, 8);
    send(scene, Signal::Usr1);
    send(scene, Signal::Usr2);
    told(scene, &caught, one(Signal::Usr1).with(Signal::Usr2));
    act(scene, Signal::Usr1, SigAction::Ignore, &caught);
    act(scene, Signal::Usr2, SigAction::Ignore, &caught);
    end(scene, caught, event);
}

/// A signal's write to the eventfd comes after its note.
fn readable(scene: &mut Scene, event: Name) {
    let epoll = scene.epoll();
    scene.add(epoll, event, Events::IN);
    scene.wait_for(epoll, 1, Duration::from_secs(1));
    scene.close(epoll);
}

pub(super) fn kill(scene: &mut Scene) {
    let (caught, event) = place(scene);
    // Ignored by default, so it may come before anybody asks.
    send(scene, Signal::Winch);
    scene.sleep(Duration::from_millis(5));
    act(scene, Signal::Winch, SigAction::Catch, &caught);
    told(scene, &caught, SignalSet::EMPTY);
    for _ in 0..3 {
        send(scene, Signal::Winch);
    }
    told(scene, &caught, one(Signal::Winch));
    act(scene, Signal::Winch, SigAction::Ignore, &caught);
    end(scene, caught, event);
}

/// Two hubs of one process do not take each other's signals.
pub(super) fn each_place_gets_each_signal(scene: &mut Scene) {
    let (first, first_event) = place(scene);
    let (second, second_event) = place(scene);
    act(scene, Signal::Usr1, SigAction::Catch, &first);
    act(scene, Signal::Usr1, SigAction::Catch, &second);
    act(scene, Signal::Usr2, SigAction::Catch, &second);
    send(scene, Signal::Usr1);
    told(scene, &first, one(Signal::Usr1));
    told(scene, &second, one(Signal::Usr1));
    send(scene, Signal::Usr2);
    told(scene, &second, one(Signal::Usr2));
    scene.say(format!("not asked for: {:?}", first.take()));
    for (place, event) in [(first, first_event), (second, second_event)] {
        act(scene, Signal::Usr1, SigAction::Ignore, &place);
        act(scene, Signal::Usr2, SigAction::Ignore, &place);
        end(scene, place, event);
    }
}

/// A process that has caught a signal once survives it, though nobody asks any more.
pub(super) fn what_was_caught_once_is_survived(scene: &mut Scene) {
    let (caught, event) = place(scene);
    act(scene, Signal::Usr2, SigAction::Catch, &caught);
    send(scene, Signal::Usr2);
    told(scene, &caught, one(Signal::Usr2));
    act(scene, Signal::Usr2, SigAction::Ignore, &caught);
    send(scene, Signal::Usr2);
    scene.sleep(Duration::from_millis(5));
    told(scene, &caught, SignalSet::EMPTY);
    act(scene, Signal::Usr2, SigAction::Catch, &caught);
    send(scene, Signal::Usr2);
    told(scene, &caught, one(Signal::Usr2));
    act(scene, Signal::Usr2, SigAction::Ignore, &caught);
    // It held the last reference but one.
    end(scene, caught, event);
}
