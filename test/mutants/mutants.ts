/**
 * Ways to break the product, each as one replacement in one file, and the tests that must see it. `find` is there exactly
 * once, so that a mutant fails loudly when its code moves (`test/mutants.test.ts`). A test is a file, or 'simulation'.
 */
export interface Mutant {
  name: string;
  file: string;
  find: string;
  put: string;
  tests: readonly string[];
}

/** `npm run sim` at a size that every mutant for it is found in. */
export const SIMULATION = 'simulation';

const LOCAL = 'collector/lake/local.ts';
const LAKE_DISK = 'test/collector/lake-disk.test.ts';
const LAKE_DAMAGE = 'test/collector/lake-damage.test.ts';
const LAKE_IDENTITY = 'test/collector/lake-identity.test.ts';
const LAKE_ORDER = 'test/collector/lake-order.test.ts';
const STORE_CHANGES = 'test/collector/store-changes.test.ts';
const LAKE_PAST = 'test/collector/lake-past.test.ts';
const LAKE = 'test/collector/lake.test.ts';
const BUFFER = 'test/gateway/buffer.test.ts';
const KEEPING = 'test/gateway/keeping.test.ts';
const LOG = 'test/collector/log-embedded.test.ts';
const RECOVER = 'test/shared/recover.test.ts';
const PRIMITIVES = 'test/shared/primitives.test.ts';
const STAGES = 'test/collector/stages.test.ts';
const STORE_WHOLE = 'test/collector/store-whole.test.ts';
const STREAM = 'test/collector/stream.test.ts';
const RESULTS = 'test/collector/stream-results.test.ts';

export const MUTANTS: readonly Mutant[] = [
  // ---- acknowledgement and fsync at the edge ----
  {
    name: 'gateway: a group is written without fsync',
    file: 'gateway/buffer/storage.ts',
    find: 'await db.write(ops, { sync: true });',
    put: 'await db.write(ops, { sync: false });',
    tests: [SIMULATION],
  },
  {
    name: 'gateway: a folder that vanished is not looked at',
    file: 'gateway/buffer/storage.ts',
    find: 'if (problem !== undefined) throw new Error(problem);',
    put: 'void problem;',
    tests: ['test/gateway/folder.test.ts'],
  },
  {
    name: 'gateway: acknowledged before it is written',
    file: 'gateway/buffer/level-buffer.ts',
    find: '    this.forced = false;\n    return this.pending.take();',
    put: '    this.forced = false;\n    const group = this.pending.take();\n    if (group !== undefined) this.events.onDurable(group.tickets.splice(0));\n    return group;',
    tests: [SIMULATION, BUFFER],
  },
  {
    name: 'gateway: a failed write is believed',
    file: 'shared/kv/group-commit.ts',
    find: 'this.host.write(group).then(this.written, this.failed);',
    put: 'this.host.write(group).then(this.written, this.written);',
    tests: [BUFFER, 'test/shared/group-commit.test.ts'],
  },
  {
    name: 'gateway: the failed group is forgotten at the reopen',
    file: 'gateway/buffer/mending.ts',
    find: 'if (await commits.again()) account',
    put: 'if (commits.group !== undefined) account',
    tests: [BUFFER],
  },
  {
    name: 'gateway: an epoch is used twice',
    file: 'gateway/buffer/database.ts',
    find: 'this.epochBytes = this.env.random.bytes(8);',
    put: 'this.epochBytes = Buffer.alloc(8, 7);',
    tests: [SIMULATION],
  },
  {
    name: 'gateway: a loss is not reported',
    file: 'gateway/buffer/level-buffer.ts',
    find: '    this.pending.addNote(KIND_LOSS, report);\n',
    put: '',
    tests: [BUFFER],
  },
  {
    name: 'gateway: a full buffer acknowledges on',
    file: 'gateway/buffer/upkeep.ts',
    find: 'return this.diskBytes > this.options.diskBytesMax * FULL_FROM;',
    put: 'return false;',
    tests: [BUFFER],
  },
  {
    name: 'gateway: history is recalled one message short',
    file: 'gateway/buffer/epochs.ts',
    find: 'epoch.released.remove(a, b);',
    put: 'epoch.released.remove(a, b - 1);',
    tests: [KEEPING],
  },
  {
    name: 'gateway: what the collector has is not noted',
    file: 'gateway/buffer/epochs.ts',
    find: '    epoch.released.add(from, from + count - 1);\n    this.dirty.add(epoch);\n    return true;',
    put: '    epoch.released.add(from, from + count - 1);\n    return true;',
    tests: [BUFFER, KEEPING],
  },
  {
    name: 'gateway: after a failed write notes are not written again',
    file: 'gateway/buffer/epochs.ts',
    find: 'for (const epoch of this.list) this.dirty.add(epoch);',
    put: '',
    tests: [SIMULATION, BUFFER, KEEPING],
  },
  {
    name: 'gateway: expired frames are not named as lost',
    file: 'gateway/buffer/epochs.ts',
    find: 'this.byEpoch.get(epoch)?.lost.add(firstSequence, firstSequence + count - 1);',
    put: '',
    tests: [KEEPING],
  },
  // ---- checksums ----
  {
    name: "a frame's checksum is not compared",
    file: 'shared/frame/frame.ts',
    find: "if (frame.readUInt32LE(8) !== frameCrc(frame)) invalid('checksum does not match');",
    put: '',
    tests: ['test/shared/frame.test.ts'],
  },
  {
    name: "a note's checksum is not compared",
    file: 'shared/kv/sealed.ts',
    find: 'if (sealed.length < 4 || sealed.readUInt32LE(0) !== crc32c(sealed, 4)) return undefined;',
    put: 'if (sealed.length < 4) return undefined;',
    tests: [RECOVER],
  },
  {
    name: "LevelDB's log: a checksum is not compared",
    file: 'shared/kv/log-check.ts',
    find: 'if (unmask(bytes.readUInt32LE(offset)) !== crc32c(bytes, offset + 6, next)) {\n        // LevelDB',
    put: 'if (unmask(bytes.readUInt32LE(offset)) === -1) {\n        // LevelDB',
    tests: [PRIMITIVES],
  },
  {
    name: "LevelDB's log: a torn tail is believed",
    file: 'shared/kv/log-check.ts',
    find: "damages.push({ file, offset, bytes: end - offset, kind: last ? 'torn' : 'corrupt' });",
    put: '',
    tests: [PRIMITIVES],
  },
  {
    name: 'recovery: an error of the disk is taken for damage',
    file: 'shared/kv/recover.ts',
    find: 'if (NOT_DAMAGE.test(messageOf(cause))) throw cause;',
    put: 'if (messageOf(cause) === NOT_DAMAGE.source) throw cause;',
    tests: [RECOVER],
  },
  {
    name: 'recovery: what is whole in a database set aside is not carried over',
    file: 'shared/kv/recover.ts',
    find: 'carried = await carryOver(folder, fresh);',
    put: 'carried = 0;\n    void carryOver;',
    tests: [RECOVER],
  },
  {
    name: 'recovery: newest records that are gone with their file are missed by nobody',
    file: 'shared/kv/recover.ts',
    find: "if (log > 0 && !names.includes(nameOf(log, 'log')))",
    put: "if (log < 0 && !names.includes(nameOf(log, 'log')))",
    tests: [RECOVER],
  },
  {
    name: 'recovery: a damaged database is renamed before what is whole in it is elsewhere',
    file: 'shared/kv/recover.ts',
    find: 'await rm(folder + CARRIED, { recursive: true, force: true });',
    put: 'await mkdir(dirname(aside), { recursive: true });\n  await rename(folder, `${aside}-whole`);\n  await mkdir(folder);',
    tests: [RECOVER],
  },
  {
    name: 'registry: a checksum of a line is not compared',
    file: 'collector/enroll/registry-lines.ts',
    find: 'return crc === sumOf(line, place) ? { line, place } : undefined;',
    put: 'return crc === undefined ? undefined : { line, place };',
    tests: ['test/collector/registry.test.ts'],
  },
  {
    name: 'authority: one whose certificate is gone makes a new one',
    file: 'collector/enroll/authority.ts',
    find: 'const isNew = !hadAuthority(folder);',
    put: 'const isNew = true;',
    tests: ['test/collector/registry.test.ts'],
  },
  {
    name: 'registry: a line is written to one of the two files',
    file: 'collector/enroll/registry.ts',
    find: 'this.files.map(async (file) => {',
    put: 'this.files.slice(0, 1).map(async (file) => {',
    tests: ['test/collector/registry.test.ts'],
  },
  {
    name: 'registry: what both files have lost is not told',
    file: 'collector/enroll/registry.ts',
    find: 'if (found.lost > 0 || isGone) await',
    put: 'if (isGone) await',
    tests: ['test/collector/registry.test.ts'],
  },
  {
    name: 'registry: lines of an older copy count',
    file: 'collector/enroll/registry-lines.ts',
    find: 'if (each.from === from) lines.set(each.n, each.line);',
    put: 'lines.set(each.n, each.line);',
    tests: ['test/collector/registry.test.ts'],
  },
  {
    name: 'registry: a write that failed stays where it was written',
    file: 'collector/enroll/registry.ts',
    find: 'if (this.isTorn) await this.anew();',
    put: '',
    tests: ['test/collector/registry.test.ts'],
  },
  {
    name: "authority: a key that is not its certificate's is believed",
    file: 'collector/enroll/authority-files.ts',
    find: 'if (!belongTogether(key.value, certificate.value)) continue;',
    put: '',
    tests: ['test/collector/registry.test.ts'],
  },
  {
    name: 'authority: what is damaged is not made again',
    file: 'collector/enroll/authority-files.ts',
    find: "await writeWhole(path, Buffer.from(text, 'latin1'));",
    put: 'await Promise.resolve();',
    tests: ['test/collector/registry.test.ts'],
  },
  // ---- sets of sequences ----
  {
    name: 'dedupe is off by one at the end of a range',
    file: 'shared/model/ranges.ts',
    find: 'return range !== undefined && range[0] <= from && range[1] >= to;',
    put: 'return range !== undefined && range[0] <= from && range[1] >= to - 1;',
    tests: [PRIMITIVES],
  },
  {
    name: 'ranges that overlap by one are not seen to touch',
    file: 'shared/model/ranges.ts',
    find: '  touches(from: number, to: number): boolean {\n    const range = this.list[this.search(from)];\n    return range !== undefined && range[0] <= to;',
    put: '  touches(from: number, to: number): boolean {\n    const range = this.list[this.search(from)];\n    return range !== undefined && range[0] < to;',
    tests: [PRIMITIVES],
  },
  // ---- ingest and log ----
  {
    name: 'ingest: acknowledged before the log has it',
    file: 'collector/ingest/take.ts',
    find: '    await log.append(TOPIC_RAW, records);\n',
    put: '    void log.append(TOPIC_RAW, records).catch(() => undefined);\n',
    tests: [SIMULATION, 'test/collector/uplink.test.ts'],
  },
  {
    name: 'ingest: a failed append is acknowledged',
    file: 'collector/ingest/receiver.ts',
    find: '      // The log reports its own trouble; here it only means: not yet.\n      return undefined;',
    put: '      return { taken: records, tooLarge: [] };',
    tests: [SIMULATION, 'test/collector/uplink.test.ts'],
  },
  {
    name: 'ingest: frames that speak for another gateway are taken',
    file: 'collector/ingest/receiver.ts',
    find: 'if (foreign !== undefined)\n',
    put: 'if (foreign !== undefined && foreign.header.gateway === gateway)\n',
    tests: ['test/collector/uplink.test.ts'],
  },
  {
    name: 'log: appended without fsync',
    file: 'collector/log/embedded.ts',
    find: 'write(ops, { sync: true }),',
    put: 'write(ops, { sync: false }),',
    tests: [SIMULATION],
  },
  {
    name: 'log: progress is committed without what the step produced',
    file: 'collector/log/embedded.ts',
    find: 'await this.submit(step.produce, ops);',
    put: 'await this.submit(step.produce.filter(({ topic }) => this.compacted.has(topic)), ops);',
    tests: [LOG, SIMULATION],
  },
  {
    name: 'log: progress is not committed with the step',
    file: 'collector/log/embedded.ts',
    find: "ops.push({ type: 'put', key: offsetKey(group, topic), value: seal(value) });",
    put: 'void [offsetKey, seal];',
    tests: [LOG],
  },
  {
    name: 'log: trimmed ahead of who reads',
    file: 'collector/log/embedded-groups.ts',
    find: 'return Math.min(Number.POSITIVE_INFINITY, ...this.positions(topic));',
    put: 'return Math.max(0, ...this.positions(topic));',
    tests: [LOG],
  },
  {
    name: 'log: trimmed ahead of a member that has committed nothing yet',
    file: 'collector/log/embedded-groups.ts',
    find: 'if (member.endsWith(`\\0${topic}`) && !this.offsets.has(member)) return 0;',
    put: 'if (member === topic) return 0;',
    tests: [LOG],
  },
  {
    name: 'log: the fence is not checked',
    file: 'collector/log/embedded-consumer.ts',
    find: '    if (!this.owns)\n      throw',
    put: '    if (this.closed && !this.owns)\n      throw',
    tests: [LOG],
  },
  {
    name: 'log: offsets of what was trimmed are given twice',
    file: 'collector/log/embedded.ts',
    find: 'const end = Math.max(stored, this.progress.givenBefore(name));',
    put: 'const end = stored;',
    tests: [LOG],
  },
  {
    name: 'log: after a failed commit it is read on, not again',
    file: 'collector/log/embedded-consumer.ts',
    find: '      this.stale = true;\n      throw error;',
    put: '      throw error;',
    tests: [SIMULATION, LOG],
  },
  {
    name: 'log: offsets on their way to the disk count as lost',
    file: 'collector/log/embedded.ts',
    find: 'return (await this.topic(name)).opened;',
    put: 'return (await this.topic(name)).end;',
    tests: [LOG, SIMULATION],
  },
  {
    name: 'log: a topic whose newest records are lost has no end',
    file: 'collector/log/embedded-consumer.ts',
    find: 'if (records.length === 0) this.next = end;',
    put: '',
    tests: ['test/collector/log-lost-end.test.ts'],
  },
  // ---- decoding and the ledger ----
  {
    name: 'decode: what was decoded is not remembered',
    file: 'collector/decode/step.ts',
    find: '    if (count > 0) ledger.receive(firstSequence, last);',
    put: '',
    tests: [SIMULATION, 'test/collector/step.test.ts'],
  },
  {
    name: 'decode: a frame that is known in part is decoded whole',
    file: 'collector/decode/step.ts',
    find: '!partly || !received.has(sequence);',
    put: 'sequence > 0 || !partly;',
    tests: ['test/collector/step.test.ts', 'test/collector/ledger.test.ts'],
  },
  {
    name: 'decode: the last message of a frame is not accounted for',
    file: 'collector/decode/step.ts',
    find: 'const last = firstSequence + Math.max(1, count) - 1;',
    put: 'const last = firstSequence + Math.max(1, count) - 2;',
    tests: ['test/collector/step.test.ts', 'test/collector/ledger.test.ts'],
  },
  {
    name: 'ledger: what is missing is not said',
    file: 'collector/ledger/epoch-ledger.ts',
    find: 'accounted.gaps(1, this.next - 1).map(',
    put: 'accounted.gaps(1, 0).map(',
    tests: ['test/collector/ledger.test.ts'],
  },
  {
    name: 'ledger: what the gateway still holds is called missing',
    file: 'collector/ledger/epoch-ledger.ts',
    find: 'for (const [from, to] of [...this.waiting, ...this.history]) accounted.add(from, to);',
    put: '',
    tests: ['test/collector/ledger.test.ts', SIMULATION],
  },
  {
    name: 'decode: its own place is not written',
    file: 'collector/decode/stage.ts',
    find: 'return [...produced, ...this.places.after(records, offsets)];',
    put: 'void offsets;\n        return [...produced];',
    tests: ['test/collector/places.test.ts'],
  },
  {
    name: 'stage: what a failed commit has left in memory is committed',
    file: 'collector/stage/stage.ts',
    find: 'if (idle === undefined || this.isStale) return;',
    put: 'if (idle === undefined) return;',
    tests: ['test/collector/stage-again.test.ts'],
  },
  {
    name: 'stage: another log at its own place is taken for the one that was read',
    file: 'collector/stage/own-place.ts',
    find: 'if (seenOf(record)[1] === seen[1]) return false;',
    put: 'if (seenOf(record)[0] === seen[0]) return false;',
    tests: ['test/collector/places.test.ts'],
  },
  // ---- lake ----
  {
    name: 'lake: no fsync of a file',
    file: LOCAL,
    find: '      await this.sync(part);\n',
    put: '',
    tests: [LAKE_DISK],
  },
  {
    name: 'lake: no fsync of its folder',
    file: LOCAL,
    find: '      await this.files.rename(part, target);\n      await this.syncFolder(dirname(target));\n',
    put: '      await this.files.rename(part, target);\n',
    tests: [LAKE_DISK],
  },
  {
    name: 'lake: no fsync of a new folder in its folder',
    file: LOCAL,
    find: 'for (const each of made.toReversed()) await this.syncFolder(dirname(each));',
    put: '',
    tests: [LAKE_DISK],
  },
  {
    name: 'lake: a folder that an fsync has failed for is not made anew',
    file: LOCAL,
    find: 'this.doubtful = made;',
    put: 'void made;',
    tests: [LAKE_DISK],
  },
  {
    name: 'lake: a put is not awaited',
    file: 'collector/lake/lake.ts',
    find: 'await this.store.put(key, file);',
    put: 'void this.store.put(key, file).catch(() => undefined);',
    tests: [LAKE_DISK],
  },
  {
    name: 'lake: that a zone has less is forgotten by a restart',
    file: 'collector/lake/remake.ts',
    find: 'const mark = await lake.check.less.mark(zone, since);',
    put: 'const mark = `_manifest/less/${zone}/none`;',
    tests: [LAKE_DAMAGE],
  },
  {
    name: 'lake: a file whose manifest is lost proves itself',
    file: 'collector/lake/remake.ts',
    find: '{ ...entry, groups: [] }',
    put: 'entry',
    tests: ['test/collector/lake-salvage.test.ts'],
  },
  {
    name: 'log: that it was damaged is forgotten by a restart',
    file: 'collector/log/embedded.ts',
    find: 'await this.losses.load();',
    put: '',
    tests: ['test/collector/log-lost-end.test.ts'],
  },
  {
    name: 'lake: a removal is not synced',
    file: LOCAL,
    find: '      // Else it may be there again after a power cut, with rows that others have by now.\n      await this.syncFolder(dirname(target));\n',
    put: '',
    tests: [LAKE_DISK],
  },
  {
    name: 'lake: a commit that was cut short is not finished by who reads it',
    file: 'collector/lake/catalog.ts',
    find: 'for (const date of root.under ?? []) {',
    put: 'for (const date of [] as string[]) {',
    tests: ['test/collector/lake-adopt-kill.test.ts'],
  },
  {
    name: 'lake: a row is dropped in a merge',
    file: 'collector/lake/merge.ts',
    find: 'if (facts.rows !== expected)',
    put: 'if (facts.rows > expected)',
    tests: [LAKE_ORDER],
  },
  {
    name: 'lake: what was merged stays beside the merged file',
    file: 'collector/lake/merge.ts',
    find: 'for (const key of under.from) await lake.remove(key);',
    put: '{\n  }',
    tests: [LAKE],
  },
  {
    name: "lake: a file's checksum is not compared",
    file: 'collector/lake/manifest.ts',
    find: 'some((each) => each.bytes === sum.bytes && each.crc === sum.crc);',
    put: 'some((each) => each.bytes === sum.bytes);',
    tests: [LAKE_DAMAGE],
  },
  {
    name: "lake: a manifest's checksum is not compared",
    file: 'collector/lake/manifest.ts',
    find: 'if (!isFramed || crc !== hex(crc32c(bytes, from, bytes.length - 2))) return undefined;',
    put: 'if (!isFramed || crc === "") return undefined;',
    tests: [LAKE_DAMAGE],
  },
  {
    name: 'lake: a file of the past that is gone is not missed',
    file: 'collector/lake/past.ts',
    find: 'missing: [...listed].filter(isMissed),',
    put: 'missing: [...listed].filter(() => false),',
    tests: [LAKE_PAST],
  },
  {
    name: 'lake: a file of the past is merged without a look at it',
    file: 'collector/lake/past-merge.ts',
    find: 'if (!(await isWhole(lake, file, path))) continue;',
    put: 'await isWhole(lake, file, path);',
    tests: [LAKE_PAST],
  },
  {
    name: 'lake: the manifest of a step is not written',
    file: 'collector/lake/write.ts',
    find: 'digest = await catalog.commit(writer, after, keeping);',
    put: "digest = 'none';",
    tests: [LAKE, LAKE_DAMAGE, LAKE_IDENTITY],
  },
  {
    name: 'lake: raw frames that it has are written again',
    file: 'collector/lake/write.ts',
    find: 'return once.filter((_, place) => !known.has(place));',
    put: 'return once.filter((_, place) => place >= 0 || !known.has(place));',
    tests: [LAKE_IDENTITY],
  },
  {
    name: 'lake: a removal is forgotten',
    file: 'collector/lake/replace.ts',
    find: 'for (const { sequence, index, timeMs, ns } of removed)\n',
    put: 'for (const { sequence, index, timeMs, ns } of removed.slice(removed.length))\n',
    tests: [LAKE_IDENTITY, LAKE, 'test/collector/audit.test.ts'],
  },
  {
    name: 'lake: state is saved without the position',
    file: 'collector/lake/stage.ts',
    // That the offsets move is the stage's own: they are gathered with the records. What others wait for is the lake's.
    find: 'part.state = { log, step: step + 1, next, begins, seal };',
    put: 'part.state = { ...part.state, log, step: step + 1, begins, seal };',
    tests: [STORE_WHOLE],
  },
  {
    name: 'lake: what is announced is not in the log before the files are',
    file: 'collector/lake/stage.ts',
    find: 'await announce(made.map(([partition, part]) => this.stateRecord(partition, part.state)));',
    put: '',
    tests: [LAKE_ORDER],
  },
  {
    name: 'lake: a lake that was emptied is not noticed',
    file: 'collector/lake/recover.ts',
    find: 'if (!isAhead && !isUnderWay && seal !== undefined && seal !== digest)',
    put: 'if (isUnderWay && seal === digest && seal !== undefined)',
    tests: [LAKE_DAMAGE],
  },
  {
    name: 'heal: readings are missed by spans, which other days share',
    file: 'collector/heal-rows.ts',
    find: 'all.add(gatewayOf(file.key), await lake.parquet.sequences(path));',
    put: "all.add(gatewayOf(file.key), (await lake.parquet.facts('readings', path)).spans);",
    tests: [LAKE_DAMAGE],
  },
  {
    name: 'heal: readings that nothing has any more are healed',
    file: 'collector/heal.ts',
    find: 'const rest = isBack ? {} :',
    put: 'const rest = !isBack ? {} :',
    tests: [LAKE_DAMAGE],
  },
  {
    name: 'heal: what is found to be gone while it heals is forgotten',
    file: 'collector/lake/less.ts',
    find: 'if (this.zones.get(zone)?.times !== times) return;',
    put: 'void times;',
    tests: [LAKE_DAMAGE],
  },
  {
    name: 'lake: a zone that lacks nobody knows what answers',
    file: 'collector/lake/check.ts',
    find: 'return isSure ? [{',
    put: 'return !isSure ? [{',
    tests: [LAKE_DAMAGE],
  },
  // ---- stages, store, streams ----
  {
    name: 'stage: after a failed commit what was read is forgotten, and not read again',
    file: 'collector/stage/stage.ts',
    find: '    this.member.forget();\n    this.isStale = true;\n',
    put: '    this.isStale = true;\n',
    tests: ['test/collector/stage-again.test.ts'],
  },
  {
    name: 'stage: of a step that failed the rest is left out',
    file: 'collector/stage/stage.ts',
    find: '      for (const [partition, next] of before) gathered.set(partition, next);\n      return await',
    put: '      for (const [partition, next] of before) gathered.set(partition, next);\n      member.done(slice);\n      return await',
    tests: [STAGES, 'test/collector/stage-troubles.test.ts'],
  },
  {
    name: 'store: a removal is forgotten',
    file: 'collector/store/changes.ts',
    find: '    for (const reading of batch.removed ?? [])\n',
    put: '    for (const reading of (batch.removed ?? []).slice(1))\n',
    tests: [STORE_CHANGES],
  },
  {
    name: 'store: the last record of another log is taken for the one that was read',
    file: 'collector/store/stage.ts',
    find: 'if (seenOf(record)[1] === seen[1]) return false;',
    put: 'if (seenOf(record)[1] !== undefined) return false;',
    tests: [STORE_WHOLE],
  },
  {
    name: 'store: the file is not written once more before a suspect one is believed',
    file: 'collector/store/duckdb-file.ts',
    find: '    if (rewrites) await file.sync();\n',
    put: '',
    tests: [STORE_CHANGES],
  },
  {
    name: 'streams: a window that is over takes in late readings once more',
    file: 'collector/stream/windows.ts',
    find: 'if (index <= group.floor || this.isOver(group, index)) {',
    put: 'if (index < group.floor && this.isOver(group, index)) {',
    tests: [STREAM],
  },
  {
    name: 'streams: values of a window are not kept over a restart',
    file: 'collector/stream/windows.ts',
    find: 'window.kept.set(field, values.length);',
    put: 'window.kept.set(field, 0);',
    tests: [STREAM],
  },
  {
    name: 'streams: a result that moves and its old place have one revision',
    file: 'collector/stream/results.ts',
    find: "revision: revision + (word === 'readings' ? 1 : 0),",
    put: 'revision: revision + (word.length > 99 ? 1 : 0),',
    tests: [RESULTS],
  },
  {
    name: 'streams: revisions go back with the clock',
    file: 'collector/stream/results.ts',
    find: 'const revision = Math.max(this.last + 1, Math.floor(wallMs));',
    put: 'const revision = Math.floor(wallMs);',
    tests: [RESULTS],
  },
  {
    name: 'streams: a new log takes its first windows for whole, whatever the lake has',
    file: 'collector/stream/stage.ts',
    find: '(own ?? committed) === undefined && !(await this.hasPast());',
    put: '(own ?? committed) === undefined;',
    tests: [RESULTS],
  },
  // ---- what strangers send ----
  {
    name: 'http: the rest of a refused body is not read',
    file: 'shared/http/send.ts',
    find: 'void passOver(request).then(() => response.end());',
    put: 'response.end();',
    tests: ['test/shared/http-limits.test.ts'],
  },
  {
    name: 'http: the rest of a refused body is read without end',
    file: 'shared/http/body.ts',
    find: 'if (bytes > PASSED_OVER_BYTES_MAX) end();',
    put: 'void PASSED_OVER_BYTES_MAX;',
    tests: ['test/shared/http-limits.test.ts'],
  },
  {
    name: 'collector: an empty folder that others remember is new',
    file: 'collector/ops/new-folder.ts',
    find: 'if (!this.isNew || this.remembered.has(who)) return;',
    put: 'return;',
    tests: ['test/collector/new-folder.test.ts'],
  },
];
