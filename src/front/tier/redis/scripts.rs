//! Lua scripts, for what must be atomic on the server. None is assembled at run time.
//!
//! A script must not write a tracked key: the server would report that to the script's caller as well (`NOLOOP`
//! only covers the caller's plain commands). So the script writes the new entry to the *tray*, a key outside of
//! the tracked ranges, and `RENAME` in the same transaction moves it. If the script decides to store nothing,
//! the tray is empty and the `RENAME` fails, which is intended.
//!
//! Changes are numbered by the server's clock in microseconds, or by one more than the last number. So numbers
//! only grow, even if the server loses its data, and tell how long ago a change was.

use redis::{Cmd, Script};
use std::sync::LazyLock;

macro_rules! script {
    ($($name:ident = $code:literal;)*) => {
        /// The hashes of the scripts.
        pub(super) struct Scripts {
            $(pub(super) $name: Box<str>,)*
        }

        pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
            $($name: Script::new(concat!(common!(), $code)).get_hash().into(),)*
        });

        /// The texts of all scripts.
        const TEXTS: &[&str] = &[$(concat!(common!(), $code),)*];
    };
}

macro_rules! common {
    () => {
        r"
local function digits(n) return string.format('%016.0f', n) end
local function plain(n) return string.format('%.0f', n) end
local function clock() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end
local function last(meta)
  local m = redis.call('HMGET', meta, 'born', 'seq')
  local born, seq = tonumber(m[1]), tonumber(m[2])
  if not born or not seq then
    born = clock()
    seq = born
    redis.call('HSET', meta, 'born', digits(born), 'seq', digits(seq))
  end
  return born, seq
end
local function marker(name)
  local m = redis.call('GET', name) or ''
  return tonumber(string.sub(m, 1, 16)), tonumber(string.sub(m, 17, 32))
end
local function seal(head)
  local s = 0
  for i = 1, #head do s = (s * 257 + string.byte(head, i) + 1) % 4294967291 end
  return string.format('%010.0f', s)
end
"
    };
}

script! {
    // KEYS: meta
    begin = r"
local born, seq = last(KEYS[1])
return {digits(born), digits(seq)}
";

    // KEYS: meta, entry, tray, lease, markers of its tags
    // ARGV: begin, span, tail, body, life of markers, id seen, since (or nothing: a write), token
    store = r"
local born, seq = last(KEYS[1])
local since, fits = seq, true
redis.call('DEL', KEYS[3])
if ARGV[7] ~= '' then
  since = tonumber(ARGV[7])
  local seen = redis.pcall('GETRANGE', KEYS[2], 4, 19)
  if type(seen) == 'table' then seen = '' end
  fits = seen == ARGV[6] and born <= since
  if ARGV[8] ~= '' and redis.call('GET', KEYS[4]) == ARGV[8] then redis.call('DEL', KEYS[4]) end
end
for i = 5, #KEYS do
  local removed, expired = marker(KEYS[i])
  if removed and expired then
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[5]) then
      redis.call('PEXPIRE', KEYS[i], ARGV[5])
    end
  else
    removed, expired = seq, 0
    redis.call('SET', KEYS[i], digits(removed) .. digits(expired), 'PX', ARGV[5])
  end
  if ARGV[7] == '' then since = math.max(since, removed, expired) end
  fits = fits and removed <= since and expired <= since
end
if not fits then return 0 end
local head = ARGV[1] .. digits(since) .. digits(tonumber(ARGV[2])) .. digits(tonumber(ARGV[3]))
redis.call('SET', KEYS[3], head .. seal(head) .. ARGV[4], 'PX', ARGV[2])
return 1
";

    // KEYS: entry, tray
    // ARGV: new id, tombstone, its life
    expire = r"
local bytes = redis.pcall('GET', KEYS[1])
if type(bytes) ~= 'string' then bytes = '' end
local left = redis.call('PTTL', KEYS[1])
local kind = string.sub(bytes, 21, 21)
local whole = string.sub(bytes, 1, 4) == 'LRD1' and (kind == 'V' or kind == 'N')
  and string.sub(bytes, 70, 79) == seal(string.sub(bytes, 1, 69))
local span, tail = tonumber(string.sub(bytes, 38, 53)), tonumber(string.sub(bytes, 54, 69))
if whole and span and tail and left > 0 then
  local over = math.min(left, tail)
  local stays = math.max(over, tonumber(ARGV[3]))
  span = math.max(span - left + stays, stays)
  local head = string.sub(bytes, 1, 4) .. ARGV[1] .. string.sub(bytes, 21, 37)
    .. digits(span) .. digits(tail - over + stays)
  redis.call('SET', KEYS[2], head .. seal(head) .. string.sub(bytes, 80), 'PX', plain(stays))
else
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
return 1
";

    // KEYS: meta, marker
    // ARGV: 'removed' or 'expired', the least life of a marker
    tag = r"
local _, seq = last(KEYS[1])
seq = math.max(seq + 1, clock())
redis.call('HSET', KEYS[1], 'seq', digits(seq))
local removed, expired = marker(KEYS[2])
if not removed or not expired then removed, expired = seq, 0 end
if ARGV[1] == 'removed' then removed = seq else expired = seq end
local life = math.max(redis.call('PTTL', KEYS[2]), tonumber(ARGV[2]))
redis.call('SET', KEYS[2], digits(removed) .. digits(expired), 'PX', plain(life))
return 1
";

    // KEYS: meta
    clear = r"
local _, seq = last(KEYS[1])
seq = math.max(seq + 1, clock())
redis.call('HSET', KEYS[1], 'born', digits(seq), 'seq', digits(seq))
return 1
";

    // KEYS: lease
    // ARGV: token
    release = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";
}

/// The command that calls a script; its keys and arguments have to be appended.
pub(super) fn call(hash: &str, keys: usize) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(hash).arg(keys);
    cmd
}

/// The commands that load the scripts into the server.
pub(super) fn load() -> impl Iterator<Item = Cmd> {
    TEXTS.iter().map(|text| {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(*text);
        cmd
    })
}
