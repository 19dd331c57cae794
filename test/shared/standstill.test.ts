/** A process that stood still says so, and blames nobody else for it. */
import { expect, it } from 'vitest';
import { Trouble } from '../../collector/stage/state.ts';
import type { Time } from '../../shared/env/env.ts';
import { Standstill } from '../../shared/telemetry/standstill.ts';

/** Time that stands until it is told; timers that are due fire once, as in a process that goes on. */
function stopped() {
  let nowMs = 0;
  const due: (() => void)[] = [];
  const clock = { wallUs: () => 1.7e15 + nowMs * 1000, monotonicUs: () => nowMs * 1000 };
  const every = (_ms: number, work: () => void) => {
    due.push(work);
    return { cancel: () => void due.splice(due.indexOf(work), 1) };
  };
  const time: Time = { clock, timers: { after: every, every } };
  const pass = (ms: number): void => {
    nowMs += ms;
    for (const work of due) work();
  };
  return { time, pass, nowMs: () => nowMs };
}

it.each([
  ['without a processor', 0, /it was stopped \(SIGSTOP/],
  ['at work', 1, /it was busy with one thing/],
])('a standstill %s is told with its length, once, and named for an hour', (_how, share, why) => {
  const { time, pass, nowMs } = stopped();
  const said: string[] = [];
  const standstill = new Standstill(time, () => nowMs() * share);
  standstill.start(({ event, text }) => said.push(`${event}: ${text}`));
  for (let second = 0; second < 60; second++) pass(1000);
  // A machine with other work is late by as much.
  pass(4000);
  expect([said, standstill.seconds, standstill.warnings()]).toEqual([[], 0, []]);
  pass(31_000);
  expect(said).toHaveLength(1);
  expect(said[0]).toMatch(/^stood_still: this process stood still for 30 s until 2023-/);
  expect(said[0]).toMatch(why);
  expect(standstill.seconds).toBe(30);
  expect(standstill.warnings()).toHaveLength(1);
  for (let second = 0; second < 3600; second++) pass(1000);
  expect([said.length, standstill.seconds, standstill.warnings()]).toEqual([1, 30, []]);
});

it('a stage that was asking when its process stood still has had an answer in time; one that asks in vain has not', () => {
  const { pass, nowMs } = stopped();
  const said: string[] = [];
  const trouble = new Trouble({
    name: 'decode',
    notify: ({ text }) => said.push(text),
    wallMs: nowMs,
    monotonicMs: nowMs,
    waitingRecords: () => 0,
  });
  const look = (ms: number): void => {
    pass(ms);
    trouble.look();
  };
  trouble.look();
  trouble.begin('reading the log');
  look(2000);
  look(60_000);
  expect([said, trouble.state.state]).toEqual([[], 'works']);
  for (let at = 0; at < 4; at++) look(2000);
  expect(said).toEqual(['reading the log: no answer for 8 s']);
});
