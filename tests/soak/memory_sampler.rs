//! The process's use of memory, and whether that grows.

use std::fs;

/// Growth that is no leak, in kilobytes: buffers that find their size late, and what the allocator
/// keeps.
const SLACK: u64 = 4096;

/// Connections that come and go may be open at the instant of a look.
const SPARE_DESCRIPTORS: u64 = 6;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    second: u64,
    kilobytes: u64,
    descriptors: u64,
}

impl Sample {
    /// `None` where the system does not report it.
    pub(crate) fn take(second: u64) -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let descriptors = fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Self {
            second,
            kilobytes: line?.trim().strip_suffix(" kB")?.parse().ok()?,
            descriptors: u64::try_from(descriptors).ok()?,
        })
    }
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The slope of a straight line through the samples, in kilobytes a minute.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |value: fn(&Sample) -> u64| {
        samples
            .iter()
            .map(|sample| value(sample) as f64)
            .sum::<f64>()
            / count
    };
    let (x, y) = (mean(|s| s.second), mean(|s| s.kilobytes));
    let (mut above, mut below) = (0.0, 0.0);
    for sample in samples {
        let from_mean = sample.second as f64 - x;
        above += from_mean * (sample.kilobytes as f64 - y);
        below += from_mean * from_mean;
    }
    if below == 0.0 {
        0.0
    } else {
        above / below * 60.0
    }
}

/// Says what was used, and what is wrong with it: the last third of the time, a fifth for warming
/// up not counted, against the first third.
pub(crate) fn judge(samples: &[Sample]) -> (String, Option<String>) {
    let warm = &samples[samples.len() / 5..];
    let third = warm.len() / 3;
    let (first, last) = (&warm[..third], &warm[warm.len() - third..]);
    if third == 0 {
        return ("too short to tell".to_owned(), None);
    }
    let memory = |samples: &[Sample]| median(samples.iter().map(|s| s.kilobytes));
    let most = |samples: &[Sample]| samples.iter().map(|s| s.descriptors).max().unwrap_or(0);
    let (kilobytes, descriptors) = ((memory(first), memory(last)), (most(first), most(last)));
    let tenths = warm.chunks(warm.len().div_ceil(10)).map(memory);
    let tenths: Vec<_> = tenths.map(|kilobytes| kilobytes.to_string()).collect();
    let text = format!(
        "memory {} kB in the first third, {} kB in the last, {:+.1} kB a minute; descriptors at \
         most {} and {}; memory tenth by tenth: {}",
        kilobytes.0,
        kilobytes.1,
        slope(warm),
        descriptors.0,
        descriptors.1,
        tenths.join(" ")
    );
    let grown =
        kilobytes.1 > kilobytes.0 + SLACK || descriptors.1 > descriptors.0 + SPARE_DESCRIPTORS;
    (text.clone(), grown.then_some(text))
}

#[test]
fn growing_memory_is_found() {
    let sample = |second, kilobytes, descriptors| Sample {
        second,
        kilobytes,
        descriptors,
    };
    let flat: Vec<_> = (0..60).map(|s| sample(s, 9000 + s % 3, 20)).collect();
    assert_eq!(judge(&flat).1, None);
    let leaking: Vec<_> = (0..60).map(|s| sample(s, 9000 + 200 * s, 20)).collect();
    assert!(judge(&leaking).1.is_some());
    assert!((slope(&leaking) - 12_000.0).abs() < 1.0);
    let open: Vec<_> = (0..60).map(|s| sample(s, 9000, 20 + s)).collect();
    assert!(judge(&open).1.is_some());
}
