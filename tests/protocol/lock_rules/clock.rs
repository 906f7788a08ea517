//! The limits that a client derives for a server's clock are true, whatever the readings were like.

use super::driver::{Client, lease};
use super::rng::Rng;
use super::server::{EPOCH, FakeServer, Kind, SECOND, Time, secs};
use core::time::Duration;
use memlatch::proto::{Instant, Now, ServerClock};

/// A server whose clock is read by one client at random.
struct Readings {
    dice: Rng,
    now: Time,
    phase: Time,
    server: FakeServer,
    client: Client,
    clock: ServerClock,
    /// The best lower bound that any reading gave, and when: nanoseconds of the server's clock at
    /// the least, at this instant of the client's.
    best: Option<(i128, Instant)>,
}

impl Readings {
    fn new(seed: u64) -> Self {
        let mut dice = Rng::new(seed);
        let phase = dice.within(0..SECOND);
        let mut client = Client::new(0);
        client.ppm = i64::try_from(dice.within(0..19_801)).expect("small") - 9_900;
        Self {
            now: dice.within(0..100 * SECOND),
            server: FakeServer::with_clock(Kind::Meta, phase, 1_000_800_000),
            clock: ServerClock::new(),
            best: None,
            phase,
            client,
            dice,
        }
    }

    /// The server's clock as it would be without its ticking in whole seconds.
    fn truth(&self, at: Time) -> u64 {
        EPOCH * SECOND + at + self.phase
    }

    fn read(&mut self) {
        let sent = self.client.moment(self.now);
        let slow = self.dice.chance(100);
        let longest = if slow { SECOND } else { SECOND / 50 };
        self.now += self.dice.within(0..longest);
        let second = self.server.second(self.now);
        self.now += self.dice.within(0..longest);
        let received = self.client.moment(self.now);
        self.clock.observe(second, sent, received);
        let bound = i128::from(second * SECOND);
        if self.best().is_none_or(|best| bound >= best) {
            self.best = Some((bound, received));
        }
    }

    /// The lower bound of the present by the best reading, with what clocks may have run apart
    /// since.
    fn best(&self) -> Option<i128> {
        let (bound, found) = self.best?;
        let elapsed = i128::from(self.client.moment(self.now).since(found).as_nanos() as u64);
        Some(bound + elapsed - elapsed / 99 - 1)
    }

    fn present(&self) -> Now {
        self.client.now(self.now)
    }

    fn check(&self) {
        let now = self.present().monotonic;
        let truth = self.truth(self.now);
        let least = self.clock.nanos_at_least(now).expect("was read");
        assert!(least <= truth, "{} s too much", (least - truth) / SECOND);
        assert!(
            i128::from(least) >= self.best().expect("was read") - 1000,
            "a good reading was forgotten"
        );
        if self.clock.is_steady() {
            let most = self.clock.seconds_upper_bound(now).expect("was read");
            assert!(
                most * SECOND >= truth,
                "{} ns too little",
                truth - most * SECOND
            );
        }
    }
}

/// The promise of `expiry` and `retained_until` together: the validity of a guard, as its holder
/// sees it now or later, ends before the server can forget the record.
fn check_lease(readings: &mut Readings) {
    let length = lease(readings.dice.within(100..120_000));
    let asked = readings.present();
    let expiry = readings.clock.expiry(length, asked).expect("in range");
    let dies = expiry * SECOND - (EPOCH * SECOND + readings.phase);
    for _ in 0..readings.dice.within(0..4) {
        readings.now += readings.dice.within(0..2 * SECOND);
        readings.read();
    }
    let now = readings.present().monotonic;
    let kept = readings
        .clock
        .retained_until(expiry, now)
        .expect("was read");
    let believed = length.valid_until(asked.monotonic).min(kept);
    let believed = readings.client.true_time(believed);
    assert!(
        believed <= dies,
        "a lease of {length:?} is believed in for {:?} too long",
        Duration::from_nanos(believed - dies)
    );
}

#[test]
fn clock_bounds_hold_over_random_stalls() {
    for seed in 0..400 {
        let mut readings = Readings::new(seed);
        readings.read();
        for step in 0..80 {
            let rest = match readings.dice.within(0..20) {
                0 => secs(600.0),
                1..4 => secs(20.0),
                4..10 => secs(1.5),
                _ => secs(0.4),
            };
            readings.now += readings.dice.within(0..rest);
            // Stalls are allowed for once the clock was seen to tick.
            if readings.clock.is_steady() && readings.dice.chance(100) {
                let until = readings.now + readings.dice.within(0..secs(30.0));
                readings.server.stall(readings.now, until);
            }
            readings.read();
            readings.check();
            // What is promised of leases is promised from the first tick on as well, but for
            // servers that do not stall it holds from the first reading.
            if step % 3 == 0 {
                check_lease(&mut readings);
                readings.check();
            }
        }
        assert!(
            readings.clock.is_steady(),
            "seed {seed}: it was never seen to tick"
        );
    }
}

#[test]
fn known_clock_uses_the_whole_lease() {
    for seed in 0..100 {
        let mut readings = Readings::new(seed);
        for _ in 0..10 {
            readings.read();
            readings.now += SECOND / 3;
        }
        assert!(readings.clock.is_steady());
        for length in [100, 1000, 10_000, 100_000, 1_000_000, 86_400_000] {
            readings.read();
            let length = lease(length);
            let asked = readings.present();
            let expiry = readings.clock.expiry(length, asked).expect("in range");
            let kept = readings.clock.retained_until(expiry, asked.monotonic);
            // To their end, but for a hundredth of the hundredth that the expiry is later by.
            let cut = length.duration() / 9000;
            let kept = kept.expect("was read").after(cut);
            assert!(
                kept >= length.valid_until(asked.monotonic),
                "seed {seed}, {length:?}"
            );
            // And a dead holder's name is not blocked for much longer than it must be.
            let dies = expiry * SECOND - (EPOCH * SECOND + readings.phase) - readings.now;
            let apart = length.duration() / 40;
            assert!(
                Duration::from_nanos(dies) < length.duration() + apart + Duration::from_secs(6),
                "seed {seed}, {length:?}"
            );
        }
    }
}
