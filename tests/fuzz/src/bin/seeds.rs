//! Writes every seed into `FOLDER/DOOR/NAME`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("seeds"), PathBuf::from);
    for (door, name, bytes) in fuzz_checks::seed::all() {
        let folder = folder.join(door);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
