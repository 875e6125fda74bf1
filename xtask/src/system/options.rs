//! `[task.NAME.options]`: what a server itself reads. What the servers of this repository understand is known here,
//! so that a mistake is found before anything is booted; any other server gets what is there.

use super::section::Section;
use ipc_proto::manifest::Setting;
use vmm_mm::{dirty, policy};

/// What an option may be.
#[derive(Clone, Copy, Debug)]
enum Allowed {
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number from 1 to that.
    Number(u64),
    /// The server itself knows.
    Text,
}

/// What options of the policy begin with.
const OF_POLICY: &str = "policy.";
/// The policy of a pager to which none is named.
const DEFAULT: &str = "demand";

/// The options of the servers of this repository.
const KNOWN: &[(&str, &[(&str, Allowed)])] = &[
    (
        "vmm-mm",
        &[
            ("policy", Allowed::Word(policy::Chosen::NAMES)),
            ("policy.", Allowed::Text),
            ("image.", Allowed::Text),
            ("measure", Allowed::Word(&["on", "off"])),
            ("frames.", Allowed::Number(u32::MAX as u64)),
            ("dirty", Allowed::Word(dirty::Way::NAMES)),
        ],
    ),
    ("vcpu", &[("console.poll_ms", Allowed::Number(1000))]),
    (
        "supervisor",
        &[
            ("check", Allowed::Word(&["true", "false"])),
            ("kill", Allowed::Text),
            ("kill.count", Allowed::Number(1_000_000)),
            ("kill.seed", Allowed::Number(i64::MAX as u64)),
            ("kill.within_us", Allowed::Number(10_000_000)),
            ("kill.after_ms", Allowed::Number(1_000_000)),
        ],
    ),
];

/// The options of a task that runs `image`.
///
/// # Errors
/// The first mistake, with what is allowed.
pub fn read(section: &Section<'_>, image: &str) -> anyhow::Result<Vec<Setting>> {
    let settings = flat(section)?;
    let Some((_, known)) = KNOWN.iter().find(|(server, _)| *server == image) else { return Ok(settings) };
    for setting in &settings {
        let Some((_, allowed)) = known.iter().find(|(key, _)| is(key, &setting.key)) else {
            let keys: Vec<&str> = known.iter().map(|(key, _)| *key).collect();
            return Err(section.wrong(&setting.key, "unknown option", &keys.join(", ")));
        };
        allowed.check(section, setting)?;
    }
    if known.iter().any(|(key, _)| *key == OF_POLICY) {
        of_policy(section, &settings)?;
    }
    Ok(settings)
}

/// The options `policy.X` are those of the policy that is chosen, and it is the policy itself that knows them.
fn of_policy(section: &Section<'_>, settings: &[Setting]) -> anyhow::Result<()> {
    let name = settings.iter().find(|setting| setting.key == "policy").map_or(DEFAULT, |setting| &setting.value);
    let Some(mut policy) = policy::Chosen::by_name(name) else { return Ok(()) };
    for setting in settings {
        let Some(key) = setting.key.strip_prefix(OF_POLICY) else { continue };
        let options = policy.options();
        match policy.set(key, &setting.value) {
            Ok(()) => {}
            Err(policy::Refusal::BadValue) => {
                let allowed = options.iter().find(|(known, _)| *known == key).map_or("", |(_, allowed)| *allowed);
                return Err(section.wrong(&setting.key, &format!("\"{}\"", setting.value), allowed));
            }
            Err(policy::Refusal::UnknownOption) => {
                let known: Vec<String> = options.iter().map(|(known, _)| format!("{OF_POLICY}{known}")).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(section.wrong(&setting.key, &format!("policy {name} has no such option"), &known));
            }
        }
    }
    Ok(())
}

/// Whether `key` is the known one, or one of those that begin with it: a known key that ends with a dot.
fn is(known: &str, key: &str) -> bool {
    key == known || known.ends_with('.') && key.starts_with(known)
}

impl Allowed {
    fn check(self, section: &Section<'_>, setting: &Setting) -> anyhow::Result<()> {
        let value = setting.value.as_str();
        let (right, allowed) = match self {
            Self::Text => (true, String::new()),
            Self::Word(words) => (words.contains(&value), words.join(", ")),
            Self::Number(most) => {
                let right = value.parse().is_ok_and(|number: u64| (1..=most).contains(&number));
                (right, format!("a whole number from 1 to {most}"))
            }
        };
        if right { Ok(()) } else { Err(section.wrong(&setting.key, &format!("\"{value}\""), &allowed)) }
    }
}

/// Options are texts, numbers, yes or no; a table makes the keys in it dotted.
fn flat(section: &Section<'_>) -> anyhow::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for key in section.keys() {
        let value = match section.value(key) {
            Some(toml::Value::String(text)) => text.clone(),
            Some(toml::Value::Integer(number)) => number.to_string(),
            Some(toml::Value::Boolean(yes)) => yes.to_string(),
            Some(toml::Value::Table(_)) => {
                for below in flat(&section.table(key)?)? {
                    let key = section.bounded(key, &format!("{key}.{}", below.key))?;
                    settings.push(Setting { key, value: below.value });
                }
                continue;
            }
            Some(other) => {
                return Err(section.wrong(key, &format!("{other}"), "text, a whole number, true, false"));
            }
            None => continue,
        };
        settings.push(Setting { key: section.bounded(key, key)?, value: section.bounded(key, &value)? });
    }
    Ok(settings)
}
