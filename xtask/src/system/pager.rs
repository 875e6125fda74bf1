//! `--set pager=NAME`: another program takes the place of every pager of a system; `--set shadow=NAME`: one is asked beside it.

use crate::status;
use toml::{Table, Value};

/// The pagers of this repository by what they are written in, and their images.
const PAGERS: &[(&str, &str)] = &[("rust", "vmm-mm"), ("c", "pager-c")];

/// Makes every task that pages a VM run the pager of that name. Its options go: another program has others.
///
/// # Errors
/// An unknown name, with the known ones; a system in which no task pages a VM.
pub fn choose(table: &mut Table, name: &Value) -> anyhow::Result<()> {
    let image = image_of("pager", name)?;
    let vms = table.get("vm").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let pagers: Vec<String> = vms.filter_map(|vm| Some(vm.get("pager")?.as_str()?.to_owned())).collect();
    let tasks = table.get_mut("task").and_then(Value::as_table_mut).into_iter().flat_map(|tasks| tasks.iter_mut());
    let mut paging =
        tasks.filter(|(task, _)| pagers.contains(task)).filter_map(|(_, task)| task.as_table_mut()).peekable();
    if paging.peek().is_none() {
        return Err(status::usage("`pager`: no task of this system pages a VM"));
    }
    for task in paging {
        let old = task.insert("image".to_owned(), image.into());
        if old.as_ref().and_then(Value::as_str) != Some(image) {
            task.remove("options");
        }
    }
    Ok(())
}

/// Gives the first VM that has a pager a shadow: the task `shadow` runs the pager of that name, with as much memory as that one.
///
/// # Errors
/// An unknown name, with the known ones; a system in which no task pages a VM.
pub fn shadow(table: &mut Table, name: &Value) -> anyhow::Result<()> {
    let image = image_of("shadow", name)?;
    let vms = table.get_mut("vm").and_then(Value::as_table_mut).into_iter().flat_map(|vms| vms.iter_mut());
    let vm = vms.filter_map(|(_, vm)| vm.as_table_mut()).find(|vm| vm.contains_key("pager"));
    let vm = vm.ok_or_else(|| status::usage("`shadow`: no task of this system pages a VM"))?;
    vm.insert("shadow".to_owned(), SHADOW.into());
    let pager = vm.get("pager").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(tasks) = table.get_mut("task").and_then(Value::as_table_mut) else { return Ok(()) };
    let mut task: Table = tasks.get(&pager).and_then(Value::as_table).cloned().unwrap_or_default();
    task.retain(|key, _| ["priority", "memory"].contains(&key));
    task.insert("image".to_owned(), image.into());
    tasks.insert(SHADOW.to_owned(), Value::Table(task));
    Ok(())
}

/// The task that `--set shadow=NAME` makes.
const SHADOW: &str = "shadow";

/// The image of the pager of that name.
fn image_of(key: &str, name: &Value) -> anyhow::Result<&'static str> {
    let known = || PAGERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let image = PAGERS.iter().find(|(known, _)| name.as_str() == Some(known)).map(|(_, image)| *image);
    image.ok_or_else(|| status::usage(format!("`{key}`: {name}; allowed: {}", known())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> Table {
        "[task.vmm-mm]\nimage = \"vmm-mm\"\npriority = 2\noptions.policy = \"demand\"\n\
         [task.vcpu]\nimage = \"vcpu\"\n[vm.a]\npager = \"vmm-mm\"\n[vm.b]\npager = \"vmm-mm\"\n"
            .parse()
            .expect("TOML")
    }

    #[test]
    fn another_pager_has_the_old_ones_place_and_none_of_its_options() {
        let mut table = system();
        choose(&mut table, &"c".into()).expect("a pager in C");
        let task = &table["task"]["vmm-mm"];
        assert_eq!((task["image"].as_str(), task["priority"].as_integer()), (Some("pager-c"), Some(2)));
        assert!(task.get("options").is_none());
        assert_eq!(table["task"]["vcpu"]["image"].as_str(), Some("vcpu"));
    }

    #[test]
    fn the_same_pager_keeps_its_options() {
        let mut table = system();
        choose(&mut table, &"rust".into()).expect("the pager that is there");
        assert_eq!(table, system());
    }

    #[test]
    fn a_shadow_stands_beside_the_first_pager_with_as_much_memory() {
        let mut table = system();
        shadow(&mut table, &"c".into()).expect("a pager in C");
        assert_eq!(table["vm"]["a"]["shadow"].as_str(), Some("shadow"));
        assert!(table["vm"]["b"].get("shadow").is_none());
        let task = &table["task"]["shadow"];
        assert_eq!((task["image"].as_str(), task["priority"].as_integer()), (Some("pager-c"), Some(2)));
        assert!(task.get("options").is_none(), "another program has others");
        assert_eq!(table["task"]["vmm-mm"], system()["task"]["vmm-mm"]);
        assert!(shadow(&mut system(), &"ada".into()).expect_err("none").to_string().contains("rust, c"));
        assert!(shadow(&mut Table::new(), &"c".into()).is_err());
    }

    #[test]
    fn an_unknown_pager_is_refused_with_the_known_ones_and_a_system_without_pager_too() {
        let error = choose(&mut system(), &"ada".into()).expect_err("no pager in Ada");
        assert!(error.to_string().contains("rust, c"), "{error}");
        assert!(choose(&mut system(), &Value::Integer(1)).is_err());
        let mut without: Table = "[task.vcpu]\nimage = \"vcpu\"\n[vm.a]\nserver = \"vcpu\"\n".parse().expect("TOML");
        assert!(choose(&mut without, &"c".into()).is_err());
    }
}
