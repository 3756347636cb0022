//! Rows about the gateway: beside another server of S3, and its memory with many uploads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::figures::{Bound, Figure, GIB, Line, MIB, Sample, number};
use crate::bench::mesh::Keeping;
use crate::bench::process::Usage;
use crate::bench::s3::Server;
use crate::bench::s3::client::{Client, Dawdling, Objects, Took};
use crate::bench::s3::garage::{self, Garage};
use crate::bench::s3::own::Own;
use crate::bench::{Bench, Measured};

const NODE_COUNT: usize = 6;
const SCHEME: &str = "4+2";
/// The large object, and the small ones.
const SIZE: u64 = 1 << 30;
const SEED: u64 = 8;
const SMALL: Objects = Objects { count: 2000, size: 4096, clients: 16, seed: 1000 };
const SMALL_COUNT_AT_LEAST: usize = 100;
/// What is done with either server.
const CASES: [&str; 4] = ["put 1 GiB", "get 1 GiB", "put 2,000 objects of 4 KiB, 16 clients", "get them"];
/// The figure that is compared.
const COMPARED: [Figure; 4] = [Figure::Rate, Figure::Rate, Figure::PerSecond, Figure::PerSecond];

/// Uploads at once, and what the gateway may have resident meanwhile, MiB: 150 MB.
const UPLOADS: usize = 64;
const GATEWAY_MEMORY_MAX: f64 = 150e6 / MIB;
/// Clients that hold a connection and send nothing more, or little at a time.
const STALLED: usize = 48;
const SLOW: usize = 16;
/// Bytes that they send first.
const AT_ONCE: usize = 1 << 20;
/// How much slower others may be for it.
const SLOWED_AT_MOST: f64 = 1.25;

/// Puts and gets through the gateway and through Garage.
pub(super) fn beside(bench: &Bench) -> Result<Measured, String> {
    let program = garage::program();
    if program.is_none() {
        println!("    Garage is left out: {}", garage::lacking());
    }
    let (mut own, mut other) = (vec![Vec::new(); CASES.len()], vec![Vec::new(); CASES.len()]);
    // Removed when all is measured, as elsewhere.
    let mut folders = Vec::new();
    for _ in 0..bench.runs {
        let folder = bench.folder()?;
        if let Some(program) = &program {
            keep(&mut other, cases(bench, &Garage::start(program, folder.path())?)?);
        }
        let ours = Own::start(Keeping::Everything, &bench.program, folder.path(), NODE_COUNT, SCHEME)?;
        Client::new(ours.endpoint())?.create_bucket()?;
        keep(&mut own, cases(bench, &ours)?);
        folders.push(folder);
    }
    let mut lines = Vec::new();
    for (at, case) in CASES.iter().enumerate() {
        let ours = Line::new(format!("{case}: DataMesh, six nodes, {SCHEME}, encrypted, synced"), &own[at]);
        let Some(program) = &program else {
            lines.push(ours);
            continue;
        };
        let named = format!("{case}: Garage {}, three nodes, three copies", garage::version(program)?);
        let theirs = Line::new(named, &other[at]);
        let reached = theirs.figures.get(&COMPARED[at]).copied().unwrap_or_default();
        lines.extend([ours.target(COMPARED[at], Bound::AtLeast(reached)), theirs]);
    }
    Ok(Measured::Lines(lines))
}

fn keep(samples: &mut [Vec<Sample>], new: Vec<Sample>) {
    for (all, one) in samples.iter_mut().zip(new) {
        all.push(one);
    }
}

/// The four cases on one server.
fn cases(bench: &Bench, server: &dyn Server) -> Result<Vec<Sample>, String> {
    let (client, size) = (Client::new(server.endpoint())?, bench.size(SIZE));
    let count = bench.size(SMALL.count as u64).max(SMALL_COUNT_AT_LEAST as u64);
    let small = Objects { count: usize::try_from(count).map_err(|error| error.to_string())?, ..SMALL };
    // The first request makes connections.
    client.put("first", SEED, SMALL.size)?;
    let large = |act: &dyn Fn() -> Result<(), String>| {
        used(server, || {
            let begun = Instant::now();
            act().map(|()| begun.elapsed())
        })
        .map(|(wall, use_of)| {
            let mut sample = use_of.memory();
            sample.insert(Figure::Rate, number(size) / MIB / wall.as_secs_f64());
            sample.insert(Figure::Cpu, use_of.cpu() * GIB / number(size));
            sample
        })
    };
    let many = |act: &dyn Fn() -> Result<Took, String>| {
        used(server, act).map(|(took, use_of)| {
            let mut sample = use_of.memory();
            let count = number(took.each.len() as u64);
            sample.insert(Figure::PerSecond, count / took.wall.as_secs_f64());
            sample.insert(Figure::CpuEach, use_of.cpu() * 1000.0 / count);
            sample.extend(latencies(&took));
            sample
        })
    };
    let samples = vec![
        large(&|| client.put("large", SEED, size))?,
        large(&|| client.get("large", SEED, size))?,
        many(&|| client.put_each(small))?,
        many(&|| client.get_each(small))?,
    ];
    for (case, sample) in CASES.iter().zip(&samples) {
        let figures: Vec<String> = sample
            .iter()
            .map(|(figure, value)| format!("{} {}", figure.text(*value), figure.name()))
            .collect();
        println!("    {case}: {}", figures.join(", "));
    }
    Ok(samples)
}

fn latencies(took: &Took) -> Sample {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    Sample::from([(Figure::Half, ms(took.percentile(50))), (Figure::Late, ms(took.percentile(99)))])
}

/// What all processes of a server used.
struct Used {
    cpu: Duration,
    face_peak: u64,
    behind_peak: u64,
}

impl Used {
    /// Seconds.
    fn cpu(&self) -> f64 {
        self.cpu.as_secs_f64()
    }

    fn memory(&self) -> Sample {
        Sample::from([
            (Figure::GatewayMemory, number(self.face_peak) / MIB),
            (Figure::NodeMemory, number(self.behind_peak) / MIB),
        ])
    }
}

/// Does something, and what the server used meanwhile.
fn used<T>(server: &dyn Server, act: impl FnOnce() -> Result<T, String>) -> Result<(T, Used), String> {
    server.forget_peaks();
    let cpu = |face: Usage, behind: Usage| face.cpu + behind.cpu;
    let before = cpu(server.face(), server.behind());
    let result = act()?;
    let (face, behind) = (server.face(), server.behind());
    let cpu = cpu(face, behind).saturating_sub(before);
    Ok((result, Used { cpu, face_peak: face.memory_peak, behind_peak: behind.memory_peak }))
}

/// The gateway's memory with many uploads at once. The nodes keep nothing: no disk of ours holds them.
pub(super) fn memory(bench: &Bench) -> Result<Measured, String> {
    let (folder, size) = (bench.folder()?, bench.size(SIZE));
    let server = Own::start(Keeping::NoShards, &bench.program, folder.path(), NODE_COUNT, SCHEME)?;
    let client = Client::new(server.endpoint())?;
    client.create_bucket()?;
    let (wall, use_of) = used(&server, || {
        let begun = Instant::now();
        let results: Vec<Result<(), String>> = thread::scope(|scope| {
            let put = |at: usize| client.put(&format!("upload-{at}"), SEED + at as u64, size);
            let uploads: Vec<_> = (0..UPLOADS).map(|at| scope.spawn(move || put(at))).collect();
            uploads.into_iter().map(|upload| upload.join().expect("an upload doesn't panic")).collect()
        });
        results.into_iter().collect::<Result<Vec<()>, _>>().map(|_| begun.elapsed())
    })?;
    let mut sample = use_of.memory();
    let all = number(size) * number(UPLOADS as u64);
    sample.insert(Figure::Rate, all / MIB / wall.as_secs_f64());
    sample.insert(Figure::Cpu, use_of.cpu() * GIB / all);
    let line = Line::new(format!("{UPLOADS} uploads of 1 GiB at once"), &[sample]);
    Ok(Measured::Lines(vec![line.target(Figure::GatewayMemory, Bound::AtMost(GATEWAY_MEMORY_MAX))]))
}

/// Small puts and gets beside clients that stall, and beside none.
pub(super) fn stalled(bench: &Bench) -> Result<Measured, String> {
    let folder = bench.folder()?;
    let server = Own::start(Keeping::Everything, &bench.program, folder.path(), NODE_COUNT, SCHEME)?;
    let client = Client::new(server.endpoint())?;
    client.create_bucket()?;
    let small = Objects { clients: 4, count: 400, ..SMALL };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    client.put_each(small)?;
    for run in 0..bench.runs {
        let seed = SEED + 10_000 * (run as u64 + 1);
        alone.push(latencies(&client.put_each(Objects { seed, ..small })?));
        let enough = AtomicBool::new(false);
        let measured = thread::scope(|scope| {
            for at in 0..STALLED + SLOW {
                let (client, enough) = (client.clone(), &enough);
                scope.spawn(move || {
                    let mut body = Dawdling { at_once: AT_ONCE, trickles: at >= STALLED, enough };
                    // It ends with an error, as it must: its body never comes.
                    let _ = client.put_from(&format!("stalled-{at}"), &mut body, SIZE);
                });
            }
            thread::sleep(Duration::from_secs(2));
            let measured = client.put_each(Objects { seed: seed + 5000, ..small });
            enough.store(true, Ordering::Relaxed);
            measured
        })?;
        beside.push(latencies(&measured));
    }
    let alone = Line::new("puts of 4 KiB, 4 clients, nobody else", &alone);
    let most = alone.figures.get(&Figure::Half).copied().unwrap_or_default() * SLOWED_AT_MOST;
    let case = format!("the same beside {STALLED} uploads that stall after 1 MiB and {SLOW} that trickle");
    let beside = Line::new(case, &beside).target(Figure::Half, Bound::AtMost(most));
    Ok(Measured::Lines(vec![alone, beside]))
}
