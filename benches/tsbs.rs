//! The data of the time series benchmark suite's "cpu-only" case: hosts with 10 tags and 10 integer percentages each,
//! random walks clamped to 0..100, a point every 10 s.
//!
//! Values are made as TSBS makes them (steps of a normal distribution, printed as integers); names and tags have its
//! shape. The same seed gives the same text.

use std::fmt::Write as _;

use super::support::Random;

/// 2016-01-01T00:00:00Z, where TSBS begins.
pub const START: i64 = 1_451_606_400_000_000_000;
pub const STEP: i64 = 10_000_000_000;
pub const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

const REGIONS: [(&str, u64); 9] = [
    ("us-east-1", 5),
    ("us-west-1", 2),
    ("us-west-2", 3),
    ("eu-west-1", 3),
    ("eu-central-1", 2),
    ("ap-southeast-1", 2),
    ("ap-southeast-2", 2),
    ("ap-northeast-1", 2),
    ("sa-east-1", 3),
];

pub struct Hosts {
    random: Random,
    keys: Vec<String>,
    walks: Vec<[f64; 10]>,
    tick: i64,
    /// What all values of `usage_user` written so far add up to, for checking answers.
    pub user_sum: i64,
    pub points: u64,
    /// All values, point by point, if they are kept for checking answers.
    pub kept: Option<Vec<[u8; 10]>>,
}

impl Hosts {
    pub fn new(hosts: usize) -> Hosts {
        let mut random = Random::new(123);
        let key = |host: usize, random: &mut Random| {
            let (region, zones) = REGIONS[random.bits() as usize % REGIONS.len()];
            let zone = (b'a' + (random.bits() % zones) as u8) as char;
            let os = ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][random.bits() as usize % 3];
            let team = ["SF", "NYC", "LON", "CHI"][random.bits() as usize % 4];
            let environment = ["production", "staging", "test"][random.bits() as usize % 3];
            format!(
                "cpu,hostname=host_{host},region={region},datacenter={region}{zone},rack={},os={os},arch={},team={team},\
                 service={},service_version={},service_environment={environment} ",
                random.bits() % 100,
                ["x64", "x86"][random.bits() as usize % 2],
                random.bits() % 20,
                random.bits() % 2,
            )
        };
        let keys = (0..hosts).map(|host| key(host, &mut random)).collect();
        let walks = (0..hosts).map(|_| std::array::from_fn(|_| random.unit() * 100.0)).collect();
        Hosts { random, keys, walks, tick: 0, user_sum: 0, points: 0, kept: None }
    }

    pub fn hosts(&self) -> usize {
        self.keys.len()
    }

    /// The time of the next point of every host.
    pub fn now(&self) -> i64 {
        START + self.tick * STEP
    }

    /// One point of each host, as line protocol.
    pub fn tick(&mut self, out: &mut String) {
        let time = self.now();
        for (key, walk) in self.keys.iter().zip(&mut self.walks) {
            out.push_str(key);
            for (name, value) in FIELDS.iter().zip(walk.iter_mut()) {
                *value = (*value + normal(&mut self.random)).clamp(0.0, 100.0);
                let comma = if *name == FIELDS[0] { "" } else { "," };
                let _ = write!(out, "{comma}{name}={}i", *value as i64);
            }
            self.user_sum += walk[0] as i64;
            if let Some(kept) = &mut self.kept {
                kept.push(walk.map(|value| value as u8));
            }
            let _ = writeln!(out, " {time}");
        }
        self.points += self.keys.len() as u64;
        self.tick += 1;
    }
}

/// The sum of twelve uniform numbers, shifted: mean 0, variance 1.
fn normal(random: &mut Random) -> f64 {
    let bits = random.bits();
    let more = random.bits();
    let part = |bits: u64, at: u32| ((bits >> at) & 0x3ff) as f64 / 1024.0;
    (0..6).map(|at| part(bits, at * 10) + part(more, at * 10)).sum::<f64>() - 6.0
}
