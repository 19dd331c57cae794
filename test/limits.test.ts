/**
 * Every constant that bounds something, and why nobody can take all of it from the others. A new `…_MAX` without a row fails:
 * where it holds for all who come, it is a `Share` with its row among the limits (docs/limits.md).
 */
import { readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';

/** By reason: names, with their file where several have the same for different reasons. */
const WHY: Record<string, string> = {
  'the whole of a share': `
    CONNECTIONS_MAX STREAMS_MAX BODIES_BYTES_MAX KEYS_MAX@shared/http/server.ts QUESTIONS_MAX QUEUED_MAX CATCH_UPS_MAX
    BEGUN_BYTES_MAX HELD_BYTES_MAX ASKED_MAX LINES_PER_SECOND_MAX LINES_PER_MINUTE_MAX`,
  'of one question and its answer': `
    BODY_BYTES_MAX FIELDS_BYTES_MAX KEY_CHARS_MAX@shared/http/ingest.ts TOPIC_BYTES_MAX LINE_CHARS_MAX NAMED_MAX LIMIT_MAX SCAN_BYTES_MAX
    REQUEST_BYTES_MAX ITEMS_MAX BYTES_MAX@collector/api/quarantine.ts TEXT_MAX MESSAGES_MAX STATEMENTS_MAX QUERY_CHARS_MAX NESTED_MAX
    SERIES_MAX BUCKETS_MAX EVERY_NS_MAX INNER_VALUES_MAX GROUP_POINTS_MAX STATED_MAX TIME_MAX FOUND_MAX LISTED_MAX VERSIONS_MAX TAIL_BYTES_MAX
    SPILL_BYTES_MAX PAYLOADS_BYTES_MAX MADE_MS_MAX TAIL_SERIES_MAX TAIL_POINTS_MAX ANSWER_BYTES_MAX PASSED_OVER_BYTES_MAX UNREAD_BYTES_MAX@shared/http/body.ts DAYS_MAX`,
  'of one connection, session or stream': `
    UNREAD_ACK_BYTES_MAX UNREAD_BYTES_MAX MESSAGE_BYTES_MAX@shared/http/upgrade.ts CONTROL_BYTES_MAX HEAD_BYTES_MAX ALIASES_MAX ALIASED_CHARS_MAX OFFERED_MAX
    OWN_TOPICS_KNOWN_MAX TOPICS_MAX AHEAD_MAX BEHIND_BYTES_MAX AHEAD_BYTES_MAX CLOSE_BYTES_MAX READINGS_MAX@collector/api/live/wanted.ts REMEMBERED_BYTES_MAX`,
  'of one message, name, frame or payload': `
    NAME_BYTES_MAX TAG_BYTES_MAX SERIES_BYTES_MAX TEXT_BYTES_MAX MESSAGE_MAX FRAME_BYTES_MAX TOPIC_LEVELS_MAX UP_BYTES_MAX FIELDS_MAX POINTS_MAX@shared/codecs/codec.ts
    DEPTH_MAX PROBLEMS_MAX OFFSET_HOURS_MAX CHARS_MAX IDS_MAX COMMAND_TOPIC_CHARS_MAX RECEIPT_MS_MAX META_CHARS_MAX PAYLOAD_BYTES_MAX INFLATED_BYTES_MAX
    VALUE_CHARS_MAX VALUE_MEMBERS_MAX KEY_CHARS_MAX@collector/decode/codec-state.ts SCRIPT_MS_MAX MEMORY_BYTES_MAX STACK_BYTES_MAX OUTPUT_CHARS_MAX
    NAMES_MAX@collector/decode/mapping/rest.ts WORDS_MAX REASON_CHARS_MAX TEXT_CHARS_MAX JOIN_TOKEN_CHARS_MAX CHAIN_MAX SINGLES_MAX LINES_MAX MESSAGE_BYTES_MAX@collector/log/kafka-client.ts`,
  'of one gateway, or an epoch of it': `
    ENTRIES_MAX EPOCHS_TOLD_MAX SPANS_MAX ALL_CHARS_MAX ANCHORS_MAX FROMS_MAX REPORTS_MAX EPOCHS_MAX CERTIFICATES_MAX RENEWALS_MAX RANGES_MAX RANGES_CHARS_MAX STARTS_MAX WHY_CHARS_MAX
    LIST_MAX UNTIMED_MAX`,
  'a cache: what gives way is found, said or read again': `
    REMEMBERED_MAX SEEN_MAX TOPICS_KNOWN_MAX CACHE_MAX WAYS_MAX TOLD_MAX KEYS_MAX@shared/access/seldom.ts GATEWAYS_MAX@collector/ingest/twins.ts IDLE_MAX KEPT_BYTES_MAX LARGE_MAX POINTS_MAX@collector/store/tails.ts
    NAMES_MAX@collector/decode/hash-counts.ts SENT_MAX`,
  'who came: the oldest give way, and begin anew': `
    ADDRESSES_MAX COUNTED_MAX CAME_MAX KEPT_MAX NAMES_MAX@shared/access/hash-queue.ts`,
  'passwords that wait, by address and in turns of addresses (threats, S8)': `
    PER_ADDRESS_MAX WAITING_MAX LATE_MAX`,
  'what is beyond is counted together': `
    LABELS_MAX`,
  'never reached by one: its messages are bodies of requests, of which each has a share': `
    WAITING_BYTES_MAX`,
  'of what an operator with the right to it makes': `
    BYTES_MAX SCRIPT_BYTES_MAX TOPIC_CHARS_MAX PATTERN_CHARS_MAX LENGTH_MAX RULES_MAX OVERLAP_MAX CHANGES_MAX READINGS_MAX@collector/stream/function.ts MS_MAX
    ROWS_MAX RESULT_BYTES_MAX TASKS_MAX JOBS_MAX TARGETS_MAX TOKENS_MAX EDITS_MAX SCRYPT_BYTES_MAX`,
  'a portion of work or a file of our own: nobody outside is turned away by it': `
    FILE_BYTES_MAX CHECK_BYTES_MAX CAUSES_MAX SAMPLES_MAX STEPS_MAX THIN_BYTES_MAX DROP_BYTES_MAX REFUSED_MAX COMMANDS_BYTES_MAX POLL_RECORDS_MAX
    GROUP_BYTES_MAX READ_MS_MAX PART_MS_MAX LOOKS_MAX UNANSWERED_MAX PORTION_BYTES_MAX PORTION_RECORDS_MAX POLL_BYTES_MAX ANSWER_MS_MAX REST_MS_MAX AGAIN_MS_MAX SUSPECTS_MAX
    PLACES_MAX REASONS_MAX POINTS_MAX@collector/audit/places.ts STEP_BYTES_MAX REBUILD_BYTES_MAX REQUESTS_MAX CALLS_MAX REFUSALS_MAX SUBJECT_MAX NAME_BYTES_MAX@collector/log/embedded-records.ts`,
};

const files = execFileSync('git', ['ls-files', 'shared', 'gateway', 'collector'], {
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path.endsWith('.ts') && !path.includes('/generated'));
const constants = files.flatMap((path) =>
  [...readFileSync(path, 'utf8').matchAll(/^(?:export )?const ([A-Z_]*MAX)\b/gm)].map(
    ([, name]) => ({ name: name ?? '', path }),
  ),
);
const rows = Object.values(WHY).flatMap((names) => names.trim().split(/\s+/));

it('every constant that bounds something has a reason why one cannot take it from all', () => {
  const without = constants.filter(
    ({ name, path }) => !rows.includes(name) && !rows.includes(`${name}@${path}`),
  );
  expect(without).toEqual([]);
});

it('and every reason its constant', () => {
  const gone = rows.filter((row) => {
    const [name, path] = row.split('@');
    return !constants.some((each) => each.name === name && (path ?? each.path) === each.path);
  });
  expect(gone).toEqual([]);
});
