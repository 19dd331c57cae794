/** `--log lines://`: the log as a file of lines. */
import { defineLog } from '@headwater/contracts';
import { LinesLog } from './log.js';

export default defineLog({
  name: 'lines',
  about: 'The log as a file of lines, for one process.',
  options: {
    file: { type: 'string', default: 'log.jsonl', about: 'Name of the file in the data folder.' },
  },
  supports: {
    atomicStep: true,
    partitions: false,
    processes: false,
    recordBytesMax: 256 * 1024 * 1024,
  },
  create: ({ folder, options, topics, nowMs }) =>
    new LinesLog({ folder, file: options.file, topics, nowMs }),
});
