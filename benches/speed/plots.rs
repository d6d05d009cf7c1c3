//! Plots as SVG: horizontal bars with a figure at each.

use std::fmt::Write as _;

use crate::{
    record::{Record, whole},
    sections::{CONNECTIONS, LATENCY, SIZES, Section},
};

const WIDTH: f64 = 760.0;
const LABELS: f64 = 220.0;
const FIGURES: f64 = 110.0;
const ROW: f64 = 22.0;
const TOP: f64 = 48.0;

struct Bar {
    label: String,
    value: f64,
    figure: String,
    color: &'static str,
}

/// The plots that these sections have the figures for, by file name.
pub fn of(sections: &[Section]) -> Vec<(&'static str, String)> {
    let section = |title| sections.iter().find(|section| section.title == title);
    let mut plots = Vec::new();
    if let Some(section) = section(CONNECTIONS) {
        let records: Vec<&Record> = section
            .records
            .iter()
            .filter(|record| record.key.connections == 32 && record.key.protocol == "HTTP/1.1")
            .collect();
        let throughput = |record: &Record| record.throughput();
        plots.push((
            "throughput.svg",
            plot("get_user, 32 connections: requests a second", &records, throughput, 0),
        ));
        let processor = |record: &Record| record.server();
        plots.push((
            "processor.svg",
            plot(
                "get_user, 32 connections: µs of the server's processor a request",
                &records,
                processor,
                1,
            ),
        ));
        let memory = |record: &Record| mebibytes(record.resident());
        plots.push((
            "memory.svg",
            plot(
                "get_user, 32 connections: resident memory of the server, MiB",
                &records,
                memory,
                1,
            ),
        ));
    }
    if let Some(section) = section(LATENCY) {
        let records: Vec<&Record> =
            section.records.iter().filter(|record| record.key.action == "get_user").collect();
        let latency = |record: &Record| record.latency(99.0);
        plots.push((
            "latency.svg",
            plot(
                "get_user, 1,000 requests a second: 99 of 100 within so many µs",
                &records,
                latency,
                0,
            ),
        ));
    }
    if let Some(section) = section(SIZES) {
        let records: Vec<&Record> = section.records.iter().collect();
        let processor = |record: &Record| record.server();
        plots.push((
            "users.svg",
            plot(
                "get_user by the users in the table: µs of the server's processor",
                &records,
                processor,
                1,
            ),
        ));
    }
    plots
}

#[expect(clippy::cast_precision_loss, reason = "memory is far from 2^52")]
fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

fn plot(title: &str, records: &[&Record], value: impl Fn(&Record) -> f64, digits: usize) -> String {
    let many_users = records.iter().any(|record| record.key.users != records[0].key.users);
    let bars = records.iter().map(|record| {
        let key = &record.key;
        let mut label = match key.store {
            "none" => key.who.to_owned(),
            store => format!("{}, {store}", key.who),
        };
        if many_users {
            let _ = write!(label, ", {}", crate::figures::thousands(key.users));
        }
        let value = value(record);
        let color = match key.who {
            "faroe-sidecar" => "#2563a8",
            "floor" => "#8a8f98",
            _ => "#c98b2b",
        };
        let figure = match digits {
            0 => whole(value),
            _ => format!("{value:.digits$}"),
        };
        Bar { label, value, figure, color }
    });
    svg(title, &bars.collect::<Vec<_>>())
}

fn svg(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut rows = String::new();
    let mut y = TOP;
    for Bar { label, value, figure, color } in bars {
        let width = (WIDTH - LABELS - FIGURES) * value / most;
        let (end, base, height) = (LABELS + width + 6.0, y + 15.0, ROW - 5.0);
        let edge = LABELS - 8.0;
        let _ = writeln!(
            rows,
            "<text x=\"{edge}\" y=\"{base}\" text-anchor=\"end\">{label}</text>\n\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{color}\"/>\n\
             <text x=\"{end:.1}\" y=\"{base}\">{figure}</text>"
        );
        y += ROW;
    }
    let height = y + 12.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#1c1f24\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n\
         {rows}</svg>\n"
    )
}
