//! The group of processes that share a model, as resolved.

use std::time::Duration;

use vlinders_runner::{GroupOptions, GroupSecret};

use super::keys::secret;
use super::models::ModelConfig;
use super::problem::{ConfigError, Problem};
use crate::args::GroupArgs;

/// Signs of life come five times within it, and a busy machine delays them.
const LEAST_RANK_TIMEOUT: Duration = Duration::from_millis(500);

/// The ranks of a group that this process is; none when it computes the model alone.
///
/// # Errors
/// Everything that does not go together, `model` included.
pub(crate) fn resolve_group(args: &GroupArgs, model: &ModelConfig) -> Result<Vec<GroupOptions>, ConfigError> {
    let (Some(size), Some(leader)) = (args.ranks, args.leader.clone()) else { return Ok(Vec::new()) };
    let ranks_here = args.ranks_here.unwrap_or(1);
    let first = args.rank.or(args.process.map(|process| process.saturating_mul(ranks_here)));
    let Some(rank) = first else { return Ok(Vec::new()) };
    let default = GroupOptions::new(rank, size, leader);
    let mut problems = Vec::new();
    if ranks_here == 0 || !size.is_multiple_of(ranks_here) {
        let remedy = format!("give a number that {size}, the number of all ranks, is a multiple of");
        problems.push(Problem::option("--ranks-here", format!("found {ranks_here}"), remedy));
    }
    if size < 2 {
        let remedy = "give 2 or more, or leave out --rank, --ranks and --leader";
        problems.push(Problem::option("--ranks", format!("found {size}"), remedy));
    }
    if rank >= size {
        let (option, found, processes) = match args.process {
            Some(process) => ("--process", process, size / ranks_here.max(1)),
            None => ("--rank", rank, size),
        };
        let remedy = format!("they count from 0: give 0 to {}", processes.saturating_sub(1));
        problems.push(Problem::option(option, format!("found {found}"), remedy));
    }
    let port = default.leader.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        let remedy = "give the host of rank 0 and a free port, such as node-a:7000";
        problems.push(Problem::option("--leader", format!("found `{}`", default.leader), remedy));
    }
    if let Some(asked) = model.tensor_parallel_size.filter(|asked| *asked != size) {
        let found = format!("found {size}, and tensor_parallel_size of model '{}' is {asked}", model.name);
        problems.push(Problem::option(
            "--ranks",
            found,
            "make them equal, or leave out tensor_parallel_size",
        ));
    }
    let silence = args.rank_timeout.unwrap_or(default.silence);
    if silence < LEAST_RANK_TIMEOUT {
        let remedy = "give 500ms or more";
        problems.push(Problem::option("--rank-timeout", format!("found {silence:?}"), remedy));
    }
    let secret =
        secret(args.group_secret_file.as_deref(), "VLINDERS_GROUP_SECRET").unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    let first = GroupOptions {
        secret: secret.map_or_else(GroupSecret::default, GroupSecret::new),
        join_timeout: args.join_timeout.unwrap_or(default.join_timeout),
        silence,
        ..default
    };
    Ok((rank..rank + ranks_here).map(|rank| GroupOptions { rank, ..first.clone() }).collect())
}

#[cfg(test)]
mod tests {
    use super::super::models::ModelPath;
    use super::*;

    fn group(args: &GroupArgs, tensor_parallel_size: Option<usize>) -> Result<Vec<GroupOptions>, String> {
        let model = ModelConfig { tensor_parallel_size, ..ModelConfig::new("a", ModelPath::Builtin) };
        resolve_group(args, &model).map_err(|error| error.to_string())
    }

    fn args(rank: usize, ranks: usize, leader: &str) -> GroupArgs {
        GroupArgs {
            rank: Some(rank),
            ranks: Some(ranks),
            leader: Some(leader.to_owned()),
            ..GroupArgs::default()
        }
    }

    #[test]
    fn a_process_is_alone_unless_told_otherwise() {
        assert!(group(&GroupArgs::default(), Some(4)).unwrap().is_empty());
    }

    #[test]
    fn what_is_said_counts_and_the_rest_has_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "leaf\n").unwrap();
        let asked = GroupArgs {
            group_secret_file: Some(file),
            rank_timeout: Some(Duration::from_secs(3)),
            ..args(1, 2, "[::1]:7000")
        };
        let [group] = &group(&asked, Some(2)).unwrap()[..] else { panic!("one rank") };
        assert_eq!((group.rank, group.size, group.leader.as_str()), (1, 2, "[::1]:7000"));
        assert_eq!((group.join_timeout.as_secs(), group.silence.as_secs()), (600, 3));
        assert_eq!(format!("{:?}", group.secret), "GroupSecret(..)");
    }

    #[test]
    fn a_process_may_be_several_ranks() {
        let asked = |process, ranks_here, ranks| GroupArgs {
            rank: None,
            process: Some(process),
            ranks_here: Some(ranks_here),
            ..args(0, ranks, "node-a:7000")
        };
        let ranks = |process| {
            let group = group(&asked(process, 4, 8), Some(8)).unwrap();
            group.iter().map(|rank| (rank.rank, rank.size)).collect::<Vec<_>>()
        };
        assert_eq!(ranks(0), [(0, 8), (1, 8), (2, 8), (3, 8)]);
        assert_eq!(ranks(1), [(4, 8), (5, 8), (6, 8), (7, 8)]);
        let error = group(&asked(2, 4, 8), None).unwrap_err();
        assert!(error.contains("`--process`: found 2") && error.contains("give 0 to 1"), "{error}");
        assert!(group(&asked(0, 3, 8), None).unwrap_err().contains("`--ranks-here`: found 3"));
        assert!(group(&asked(0, 0, 8), None).unwrap_err().contains("`--ranks-here`: found 0"));
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let brief = GroupArgs { rank_timeout: Some(Duration::from_millis(5)), ..args(2, 2, "node-a") };
        let error = group(&brief, Some(4)).unwrap_err();
        for part in ["`--rank`: found 2", "give 0 to 1", "`--leader`: found `node-a`", "`--rank-timeout`"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(error.contains("found 2, and tensor_parallel_size of model 'a' is 4"), "{error}");
        assert!(group(&args(0, 1, "a:1"), None).unwrap_err().contains("`--ranks`: found 1"));
        let missing = GroupArgs { group_secret_file: Some("/nowhere".into()), ..args(0, 2, "a:1") };
        assert!(group(&missing, None).unwrap_err().contains("/nowhere: cannot be read"));
    }
}
