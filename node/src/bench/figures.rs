//! What was measured, as one JSON document and as a table.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

use crate::debug::Paint;

/// Figures under dotted names, such as `A.256.per_s`; nested in the document.
#[derive(Clone, Debug, Default)]
pub struct Figures(Map<String, Value>);

impl Figures {
    /// Sets a figure; three digits after the point are more than any of them deserves.
    pub fn set(&mut self, name: &str, figure: f64) {
        let rounded = (figure * 1_000.0).round() / 1_000.0;
        let whole = rounded.fract() == 0.0 && rounded.abs() < 1e15;
        #[allow(clippy::cast_possible_truncation)] // Checked to be whole and small.
        let number = if whole { Some(Number::from(rounded as i64)) } else { Number::from_f64(rounded) };
        self.put(name, number.map_or(Value::Null, Value::Number));
    }

    /// Sets a word.
    pub fn say(&mut self, name: &str, word: impl Into<String>) {
        self.put(name, Value::String(word.into()));
    }

    fn put(&mut self, name: &str, value: Value) {
        let mut at = &mut self.0;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                at.insert(part.to_owned(), value);
                return;
            }
            let below = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(below) = below else { return };
            at = below;
        }
    }

    /// A figure that was set.
    pub fn get(&self, name: &str) -> Option<f64> {
        let pointer = format!("/{}", name.replace('.', "/"));
        let (first, rest) = pointer[1..].split_once('/').unwrap_or((&pointer[1..], ""));
        let top = self.0.get(first)?;
        if rest.is_empty() { top.as_f64() } else { top.pointer(&format!("/{rest}"))?.as_f64() }
    }

    /// The document.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// The table for a person; what was not measured is left out.
    pub fn table(&self, paint: Paint) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}",
            paint.dim("                  sagas/s       p50       p99   CPU ms per 1,000 sagas: node  server  client")
        );
        for (workload, what) in [("A", "five steps"), ("B", "undone"), ("C", "signalled")] {
            for clients in super::drive::CLIENTS {
                let of = |name: &str| self.get(&format!("{workload}.{clients}.{name}"));
                let (Some(rate), Some(p50), Some(p99)) = (of("per_s"), of("p50_us"), of("p99_us")) else { continue };
                let cpu = |name: &str| of(name).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "{workload} {what:<10} {clients:>4} {:>8} {:>8.2}ms {:>8.2}ms {:>29.0} {:>7.0} {:>7.0}",
                    paint.strong(&format!("{rate:>8.0}")),
                    p50 / 1_000.0,
                    p99 / 1_000.0,
                    cpu("node_cpu_ms_per_1000"),
                    cpu("server_cpu_ms_per_1000"),
                    cpu("client_cpu_ms_per_1000"),
                );
            }
        }
        self.lines(&mut text);
        text
    }

    fn lines(&self, text: &mut String) {
        if let (Some(p50), Some(p99)) = (self.get("floor.append_p50_us"), self.get("floor.append_p99_us")) {
            let _ = writeln!(text, "floor: one durable append after another {p50:.0} us (p99 {p99:.0} us)");
        }
        let compared = |name: &str| self.get(&format!("compared.{name}"));
        if let (Some(append), Some(saga), Some(ratio)) =
            (compared("append_p50_us"), compared("saga_p50_us"), compared("ratio"))
        {
            let saga = saga / 1_000.0;
            let _ = writeln!(
                text,
                "in turns: an append {append:.0} us, a saga of A {saga:.2} ms, which is {ratio:.2} times six appends (p50)"
            );
        }
        for count in super::waiting::COUNTS {
            let of = |name: &str| self.get(&format!("waiting.{count}.{name}"));
            let (Some(each), Some(bytes), Some(cpu)) = (of("bytes_per_saga"), of("bytes"), of("idle_cpu_percent"))
            else {
                continue;
            };
            let _ = writeln!(
                text,
                "{count} waiting: {each:.0} bytes each, {:.0} MB in all, {cpu:.1} % CPU; a signal wakes one in {:.1} ms",
                bytes / 1e6,
                of("wake_us").unwrap_or_default() / 1_000.0
            );
        }
        if let (Some(first), Some(all)) = (self.get("recovery.first_progress_ms"), self.get("recovery.all_ended_ms")) {
            let lost = self.get("recovery.lost").unwrap_or_default();
            let _ = writeln!(
                text,
                "kill -9 with 1,000 in flight: first goes on after {first:.0} ms, all ended after {all:.0} ms, {lost:.0} lost"
            );
        }
        if let Some(cold) = self.get("cold_start_ms") {
            let _ = writeln!(text, "cold start: server, node and first saga in {cold:.0} ms");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_dots_are_nested() {
        let mut figures = Figures::default();
        figures.set("A.1.p50_us", 1_800.0);
        figures.set("A.1.ratio", 1.23456);
        figures.set("cold_start_ms", 700.0);
        assert_eq!(figures.to_value().to_string(), r#"{"A":{"1":{"p50_us":1800,"ratio":1.235}},"cold_start_ms":700}"#);
        assert_eq!(figures.get("A.1.p50_us"), Some(1_800.0));
        assert_eq!(figures.get("cold_start_ms"), Some(700.0));
        assert_eq!(figures.get("A.2"), None);
    }
}
