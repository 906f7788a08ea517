//! From any state on, a client that wants the lock gets it, in how many ticks at most.

use super::rules::Bounds;
use super::search::Action;
use super::world::{CLIENTS, Client, Flight, Phase, Request, World};

/// The behavior of the other client meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    /// It releases what it has, and rests.
    Ends,
    /// It does nothing any more, and nothing that it has sent arrives.
    Stops,
}

/// Number of requests of a client in one tick.
const TRIES: u8 = 4;
/// More ticks than anything should take.
const PATIENCE: u8 = 40;

/// The ticks until the first client has the lock, when nothing disturbs it any more. `None`: never.
pub(crate) fn ticks_to_grant(mut world: World, other: Other, bounds: &Bounds) -> Option<u8> {
    world.budget = Default::default();
    let mut actions = Vec::new();
    let mut tries = 0;
    let mut ticks = 0;
    while ticks < PATIENCE {
        let wanting = &world.clients[0];
        if wanting.phase == Phase::Hold && wanting.valid > 0 {
            return Some(ticks);
        }
        let late = world
            .late
            .iter()
            .position(|late| late.request != Request::Nothing);
        world.actions(bounds, &mut actions);
        let mut action = late.map(|index| Action::CarryOutLate(index as u8));
        if action.is_none() && other == Other::Ends {
            action = of_client(&actions, &world, 1).find(|&action| ends(action, &world.clients[1]));
        }
        if action.is_none() && tries < TRIES {
            action = of_client(&actions, &world, 0).find(|&action| wants(action, wanting));
            tries += u8::from(matches!(action, Some(Action::Acquire(_) | Action::Look(_))));
        }
        let action = action.unwrap_or(Action::Tick { stall: false });
        if matches!(action, Action::Tick { .. }) {
            ticks += 1;
            tries = 0;
        }
        world
            .act(action, bounds)
            .expect("what the search finds as well");
    }
    None
}

fn of_client<'a>(
    actions: &'a [Action],
    world: &World,
    who: u8,
) -> impl Iterator<Item = Action> + use<'a> {
    assert!(usize::from(who) < CLIENTS && world.clients.len() == CLIENTS);
    actions.iter().copied().filter(move |action| match *action {
        Action::Read(client)
        | Action::Acquire(client)
        | Action::Repeat(client)
        | Action::TakeOver(client)
        | Action::Look(client)
        | Action::Renew(client)
        | Action::Release(client)
        | Action::Found(client)
        | Action::SetReady(client)
        | Action::GiveUp(client)
        | Action::CarryOut(client) => client == who,
        _ => false,
    })
}

fn ends(action: Action, client: &Client) -> bool {
    match action {
        Action::Acquire(_) | Action::Repeat(_) | Action::TakeOver(_) | Action::Renew(_) => false,
        Action::Read(_) | Action::Look(_) => client.phase != Phase::Idle,
        _ => true,
    }
}

fn wants(action: Action, client: &Client) -> bool {
    match action {
        Action::Read(_) => !client.connected,
        // The last record that was seen is looked at until it is gone.
        Action::Acquire(_) => client.watch.record.unique == 0,
        Action::Look(_) if client.phase == Phase::Idle => {
            client.watch.wait > 0 || !client.watch.record.same_link
        }
        _ => client.flight != Flight::None || !matches!(action, Action::Renew(_)),
    }
}
