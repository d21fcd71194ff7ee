//! The effective settings, written back with their documentation.

use std::fmt::Write as _;

use super::{Config, Described};
use crate::secret::HIDDEN;

pub(super) fn commented(config: &Config) -> String {
    let table = toml::Table::try_from(config).expect("settings are writable as TOML");
    let mut text = String::from("# The effective settings of this node.\n");
    for (section, settings) in Config::SECTIONS {
        let values = match *section {
            "" => Some(&table),
            name => table.get(name).and_then(toml::Value::as_table),
        };
        if !section.is_empty() {
            let about = find(Config::SETTINGS, section);
            text.push('\n');
            comment(&mut text, about);
            let _ = writeln!(text, "[{section}]");
        }
        for (name, about) in settings.iter().filter(|(name, _)| !is_section(section, name)) {
            text.push('\n');
            comment(&mut text, about);
            match values.and_then(|values| values.get(*name)) {
                // A secret; whoever sees the settings need not see it.
                Some(value) if value.as_str() == Some(HIDDEN) => {
                    let _ = writeln!(text, "# {name} is set and not shown");
                }
                Some(value) => {
                    let _ = writeln!(text, "{name} = {value}");
                }
                None => {
                    let _ = writeln!(text, "# {name} = (not set)");
                }
            }
        }
    }
    text
}

fn is_section(section: &str, name: &str) -> bool {
    section.is_empty() && Config::SECTIONS.iter().any(|(other, _)| *other == name)
}

fn find(settings: &[Described], name: &str) -> &'static [&'static str] {
    settings.iter().find(|(other, _)| *other == name).map_or(&[], |(_, about)| about)
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "#{line}");
    }
}
