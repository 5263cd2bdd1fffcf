//! Passwords of shards and Sentinels, given as settings or in files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::config::RedisConfig;
use crate::serve::ServeError;
use crate::store::redis::{Passwords, Secret};

/// One password for all shards, or one for each.
pub(super) fn of_shards(redis: &RedisConfig, shards: &[String]) -> Result<Passwords, ServeError> {
    if let Some(password) = &redis.password {
        return Ok(Passwords::Shared(Secret::new(password.expose())));
    }
    let Some(path) = &redis.password_file else { return Ok(Passwords::None) };
    parse(&read(path)?, shards)
        .map_err(|what| ServeError::Shards(format!("{what} in the password file {}", path.display())))
}

/// The password for Sentinels, if they want one.
pub(super) fn of_sentinels(redis: &RedisConfig) -> Result<Option<Secret>, ServeError> {
    if let Some(password) = &redis.sentinel_password {
        return Ok(Some(Secret::new(password.expose())));
    }
    let text = redis.sentinel_password_file.as_deref().map(read).transpose()?;
    Ok(text.map(|text| Secret::new(text.trim())).filter(|secret| *secret != Secret::new("")))
}

fn read(path: &Path) -> Result<String, ServeError> {
    fs::read_to_string(path).map_err(|source| ServeError::ReadPassword { path: path.to_owned(), source })
}

/// The error names what is wrong and no password.
fn parse(text: &str, shards: &[String]) -> Result<Passwords, String> {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect();
    if let [only] = &lines[..]
        && let [password] = &only[..]
    {
        return Ok(Passwords::Shared(Secret::new(*password)));
    }
    let mut passwords = BTreeMap::new();
    for (number, words) in lines.iter().enumerate() {
        let [shard, password] = &words[..] else {
            return Err(format!("line {} is not `SHARD PASSWORD`", number + 1));
        };
        passwords.insert((*shard).to_owned(), Secret::new(*password));
    }
    match shards.iter().find(|shard| !passwords.contains_key(*shard)) {
        Some(missing) => Err(format!("shard {missing} has no line")),
        None => Ok(Passwords::PerShard(passwords)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards() -> Vec<String> {
        vec!["s0".to_owned(), "s1".to_owned()]
    }

    #[test]
    fn one_word_is_for_all_shards_and_two_are_for_one() {
        assert!(
            matches!(parse("secret\n", &shards()), Ok(Passwords::Shared(secret)) if secret == Secret::new("secret"))
        );
        let Ok(Passwords::PerShard(passwords)) = parse("s1 b\n\ns0 a\n", &shards()) else {
            panic!("one each")
        };
        assert_eq!(passwords["s0"], Secret::new("a"));
        assert_eq!(passwords["s1"], Secret::new("b"));
    }

    #[test]
    fn a_file_that_leaves_a_shard_out_is_refused_without_showing_a_password() {
        let refused = parse("s0 secret\n", &shards()).expect_err("s1 is missing");
        assert!(refused.contains("s1") && !refused.contains("secret"), "{refused}");
        let refused = parse("s0 secret more\ns1 b\n", &shards()).expect_err("three words");
        assert!(refused.contains("line 1") && !refused.contains("secret"), "{refused}");
        assert!(parse("", &shards()).is_err());
    }
}
