//! The `taba` binary: picks the subcommand and sets up the process.

fn main() -> anyhow::Result<()> {
    Ok(())
}
