//! The search, tried on histories of known verdicts, and on random ones beside a search that tries every order.

use std::time::Duration;

use super::model::{
    Lock, LockCall, Model, Queue, QueueAnswer, QueueCall, Register, RegisterAnswer, RegisterCall,
};
use super::search::{Verdict, check};
use super::{History, Moment, Operation};
use crate::choice::{Choices, Stream, Subsystem};

type Op<M> = Operation<<M as Model>::Call, <M as Model>::Answer>;

/// A call from one moment to another; to 0 for ever.
fn op<C, A>(began: usize, ended: usize, call: C, answer: A) -> Operation<C, A> {
    let moment = |order: usize| Moment { order, at: Duration::from_micros(order as u64) };
    let end = (ended != 0).then(|| (answer, moment(ended)));
    Operation { client: "somebody".into(), call, began: moment(began), end }
}

fn verdict<M: Model>(model: &M, operations: &[Op<M>]) -> bool {
    match check(model, operations, 1_000_000) {
        Verdict::Linearizable => true,
        Verdict::Violated(_) => false,
        Verdict::Undecided { part } => panic!("{part} is undecided"),
    }
}

fn read(began: usize, ended: usize, value: u8) -> Op<Register<u8>> {
    op(began, ended, RegisterCall::Read, RegisterAnswer::Value(value))
}

fn write(began: usize, ended: usize, value: u8) -> Op<Register<u8>> {
    op(began, ended, RegisterCall::Write(value), RegisterAnswer::Done)
}

#[test]
fn registers_of_known_verdicts() {
    let register = Register::new(0);
    assert!(verdict(&register, &[]));
    // A read beside a write sees the old value or the new one.
    assert!(verdict(&register, &[write(1, 4, 1), read(2, 3, 1)]));
    assert!(verdict(&register, &[write(1, 4, 1), read(2, 3, 0)]));
    assert!(!verdict(&register, &[write(1, 4, 1), read(2, 3, 2)]));
    // What was seen once stays.
    assert!(!verdict(&register, &[write(1, 6, 1), read(2, 3, 1), read(4, 5, 0)]));
    assert!(verdict(&register, &[write(1, 6, 1), read(2, 3, 0), read(4, 5, 1)]));
    // A write that was answered has been.
    assert!(!verdict(&register, &[write(1, 2, 1), read(3, 4, 0)]));
    // One that was not may have been at any later time, or never, but not before it was made and not twice.
    assert!(verdict(&register, &[write(1, 0, 1), read(2, 3, 0), read(4, 5, 1)]));
    assert!(verdict(&register, &[write(1, 0, 1), read(2, 3, 0), read(4, 5, 0)]));
    assert!(!verdict(&register, &[read(1, 2, 1), write(3, 0, 1)]));
    let twice = [write(1, 0, 1), read(3, 4, 1), write(5, 6, 2), read(7, 8, 1)];
    assert!(!verdict(&register, &twice));
}

#[test]
fn an_exchange_is_made_once() {
    let exchange = |began, ended, done| {
        op(began, ended, RegisterCall::CompareExchange(0, 1), RegisterAnswer::Exchanged(done))
    };
    assert!(verdict(&Register::new(0), &[exchange(1, 4, true), exchange(2, 3, false)]));
    assert!(!verdict(&Register::new(0), &[exchange(1, 4, true), exchange(2, 3, true)]));
    assert!(!verdict(&Register::new(0), &[exchange(1, 4, false), exchange(2, 3, false)]));
}

#[test]
fn queues_keep_their_order_and_their_bound() {
    let push = |began, ended, item: u8| op(began, ended, QueueCall::Push(item), QueueAnswer::Pushed);
    let pop = |began, ended, item: u8| op(began, ended, QueueCall::Pop, QueueAnswer::Popped(item));
    let empty = |began, ended| op(began, ended, QueueCall::Pop, QueueAnswer::<u8>::Empty);
    let full = |began, ended| op(began, ended, QueueCall::Push(9), QueueAnswer::<u8>::Full);
    let queue = Queue::unbounded();
    assert!(!verdict(&queue, &[push(1, 2, 1), push(3, 4, 2), pop(5, 6, 2)]));
    assert!(verdict(&queue, &[push(1, 4, 1), push(2, 3, 2), pop(5, 6, 2), pop(7, 8, 1)]));
    assert!(!verdict(&queue, &[push(1, 2, 1), empty(3, 4)]));
    assert!(!verdict(&queue, &[push(1, 2, 1), pop(3, 6, 1), pop(4, 5, 1)]));
    assert!(!verdict(&queue, &[push(1, 2, 1), full(3, 4)]));
    let one = Queue::bounded(1);
    assert!(verdict(&one, &[push(1, 2, 1), full(3, 4)]));
    assert!(verdict(&one, &[push(1, 2, 1), push(3, 6, 2), pop(4, 5, 1), pop(7, 8, 2)]));
    assert!(!verdict(&one, &[push(1, 2, 1), push(3, 4, 2), pop(5, 6, 1)]));
    // A pop that never came back may have taken the first.
    let lost = op(3, 0, QueueCall::Pop, QueueAnswer::Empty);
    assert!(verdict(&queue, &[push(1, 2, 1), lost.clone(), push(4, 5, 2), pop(6, 7, 2)]));
    assert!(!verdict(&queue, &[push(1, 2, 1), lost, push(4, 5, 2), push(6, 7, 3), pop(8, 9, 3)]));
}

#[test]
fn a_lock_is_held_once() {
    let lock = |began, ended, who| op(began, ended, LockCall::Lock(who), true);
    let unlock = |began, ended, who| op(began, ended, LockCall::Unlock(who), true);
    assert!(verdict(&Lock, &[lock(1, 2, 1), lock(3, 6, 2), unlock(4, 5, 1)]));
    assert!(!verdict(&Lock, &[lock(1, 2, 1), lock(3, 4, 2), unlock(5, 6, 1)]));
    assert!(!verdict(&Lock, &[lock(1, 2, 1), unlock(3, 4, 2)]));
    assert!(!verdict(&Lock, &[op(1, 2, LockCall::TryLock(1), false)]));
    assert!(verdict(&Lock, &[lock(1, 0, 2), op(3, 4, LockCall::TryLock(1), false)]));
    assert!(verdict(&Lock, &[op(1, 2, LockCall::Lock(1), false), lock(3, 4, 2)]));
}

#[test]
fn the_answer_that_nothing_explains_is_named_and_drawn() {
    let history = History::new(Register::new(0));
    let (alice, bob) = (history.client("alice"), history.client("bob"));
    alice.call(RegisterCall::Write(1), || RegisterAnswer::Done);
    let open = bob.begin(RegisterCall::Write(2));
    alice.begin(RegisterCall::Write(7)).refused();
    bob.call(RegisterCall::Read, || RegisterAnswer::Value(2));
    alice.call(RegisterCall::Read, || RegisterAnswer::Value(1));
    alice.call(RegisterCall::Read, || RegisterAnswer::Value(1));
    drop(open);
    let Verdict::Violated(violation) = history.check() else { panic!("{history:?}") };
    assert_eq!(violation.culprit, "alice: Read -> Value(1)");
    let order = ["alice: Write(1) -> Done", "bob: Write(2), never answered", "bob: Read -> Value(2)"];
    assert_eq!(violation.order, order);
    let text = violation.to_string();
    let rows: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(rows.len(), 5, "the call after the culprit, and the refused one, are not drawn:\n{text}");
    for (row, wanted) in rows.iter().zip(["1  alice  |--|", "2  bob", "3  bob", "X  alice"]) {
        assert!(row.contains(wanted), "{wanted} is not in its row of\n{text}");
    }
    assert!(rows[1].contains("->  Write(2), never answered"), "{text}");
    assert!(history.operations().iter().all(|operation| operation.call != RegisterCall::Write(7)));
}

/// Many open writes, one after another: more than can be tried.
#[test]
fn a_search_without_steps_is_undecided() {
    let mut operations: Vec<_> = (1..=20).map(|value| write(usize::from(value), 0, value)).collect();
    operations.push(read(21, 22, 99));
    let verdict = check(&Register::new(0), &operations, 10_000);
    assert_eq!(verdict, Verdict::Undecided { part: "()".to_owned() });
}

/// Parts are looked at alone: a history of many, each with little in it, is cheap.
#[test]
fn a_long_history_of_many_clients_is_decided() {
    let mut operations = Vec::new();
    for round in 0..2_000 {
        let start = 1 + round * 6;
        let value = (round % 200) as u8;
        operations.push(write(start, start + 3, value));
        operations.push(write(start + 1, start + 4, value + 1));
        operations.push(read(start + 2, start + 5, value + (round % 2) as u8));
    }
    assert!(verdict(&Register::new(0), &operations));
    operations.push(read(12_001, 12_002, 250));
    assert!(!verdict(&Register::new(0), &operations));
}

/// Every order of every choice of the open calls.
fn by_force<M: Model>(model: &M, state: &M::State, left: &[Op<M>]) -> bool {
    if left.iter().all(|operation| operation.end.is_none()) {
        return true;
    }
    let first_end =
        left.iter().filter_map(|operation| operation.end.as_ref()).map(|(_, end)| end.order).min();
    (0..left.len()).filter(|&index| Some(left[index].began.order) < first_end).any(|index| {
        let answer = left[index].end.as_ref().map(|(answer, _)| answer);
        let mut rest = left.to_vec();
        let operation = rest.remove(index);
        model.step(state, &operation.call, answer).is_some_and(|after| by_force(model, &after, &rest))
    })
}

/// Histories of up to six calls of three clients, with answers that may be right.
fn random_history<M: Model>(
    choices: &mut Choices,
    mut random: impl FnMut(&mut dyn FnMut(u64) -> u64) -> (M::Call, M::Answer),
) -> Vec<Op<M>> {
    let mut draw = |n| choices.draw(Stream::new(Subsystem::Script, 0), "history", n);
    let (mut operations, mut running) = (Vec::<Op<M>>::new(), [None; 3]);
    let mut answers = Vec::new();
    for order in 1..=(4 + draw(12) as usize) {
        let client = draw(3) as usize;
        match running[client].take() {
            None if operations.len() < 6 => {
                let (call, answer) = random(&mut draw);
                running[client] = Some(operations.len());
                operations.push(op(order, 0, call, answer.clone()));
                answers.push(answer);
            }
            None => {}
            // One in six never comes back.
            Some(_) if draw(6) == 0 => {}
            Some(index) => {
                let moment = Moment { order, at: Duration::ZERO };
                operations[index].end = Some((answers[index].clone(), moment));
            }
        }
    }
    operations
}

fn agrees<M: Model>(model: &M, mut random: impl FnMut(&mut dyn FnMut(u64) -> u64) -> (M::Call, M::Answer)) {
    let mut explained = 0;
    for seed in 0..4_000 {
        let operations = random_history::<M>(&mut Choices::new(seed), &mut random);
        let expected = by_force(model, &model.start(), &operations);
        assert_eq!(verdict(model, &operations), expected, "seed {seed}: {operations:?}");
        explained += u32::from(expected);
    }
    assert!((400..3_600).contains(&explained), "{explained} of 4,000: one verdict is hardly tried");
}

#[test]
fn the_search_agrees_with_every_order_tried() {
    agrees(&Register::new(0), |draw| match draw(3) {
        0 => (RegisterCall::Read, RegisterAnswer::Value(draw(2))),
        1 => (RegisterCall::Write(draw(2)), RegisterAnswer::Done),
        _ => (RegisterCall::CompareExchange(draw(2), draw(2)), RegisterAnswer::Exchanged(draw(2) == 0)),
    });
    agrees(&Queue::bounded(2), |draw| match draw(4) {
        0 | 1 => {
            let full = draw(6) == 0;
            (QueueCall::Push(draw(2)), if full { QueueAnswer::Full } else { QueueAnswer::Pushed })
        }
        2 => (QueueCall::Pop, QueueAnswer::Popped(draw(2))),
        _ => (QueueCall::Pop, QueueAnswer::Empty),
    });
    agrees(&Lock, |draw| match draw(3) {
        0 => (LockCall::Lock(draw(2)), draw(5) != 0),
        1 => (LockCall::TryLock(draw(2)), draw(2) == 0),
        _ => (LockCall::Unlock(draw(2)), draw(4) != 0),
    });
}

/// The end that is named as the culprit's: without it and all after it, the rest has an order; with it, none.
#[test]
fn the_longest_prefix_that_can_be_explained_is_told() {
    let mut tried = 0;
    for seed in 0..2_000 {
        let operations = random_history::<Register<u64>>(&mut Choices::new(seed), |draw| match draw(2) {
            0 => (RegisterCall::Read, RegisterAnswer::Value(draw(3))),
            _ => (RegisterCall::Write(draw(3)), RegisterAnswer::Done),
        });
        let register = Register::new(0);
        let Verdict::Violated(violation) = check(&register, &operations, 100_000) else { continue };
        tried += 1;
        let cut = |last: usize| {
            let mut prefix: Vec<_> =
                operations.iter().filter(|operation| operation.began.order <= last).cloned().collect();
            prefix.iter_mut().for_each(|operation| {
                operation.end = operation.end.take().filter(|(_, end)| end.order <= last);
            });
            prefix
        };
        let explained = |last: &usize| by_force(&register, &0, &cut(*last));
        let longest = (0..=40).take_while(explained).last().expect("nothing is explained by nothing");
        let culprit = operations
            .iter()
            .find(|operation| operation.end.as_ref().is_some_and(|(_, end)| end.order == longest + 1));
        let culprit = culprit.expect("an answer makes the difference");
        let words = format!("{:?} -> {:?}", culprit.call, culprit.end.as_ref().unwrap().0);
        assert!(violation.culprit.ends_with(&words), "seed {seed}: {violation}\n{words}");
    }
    assert!(tried > 200, "{tried}");
}
