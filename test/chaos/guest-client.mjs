/** The client in the guest: QoS 1 publishes over loopback, and a line on the console for each run of acknowledgements. */
import { connect } from 'node:net';
import { writeSync } from 'node:fs';

const connected = () =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: 1883, noDelay: true });
    socket.once('error', reject);
    socket.once('connect', () => resolve(socket));
  });

let socket;
for (let i = 0; socket === undefined && i < 300; i++) {
  try {
    socket = await connected();
  } catch {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
if (socket === undefined) throw new Error('the gateway does not listen');

const topic = Buffer.from(`chaos/0/${process.argv[2]}`);
const publish = (n) => {
  const payload = Buffer.from(`{"n":${n}}`);
  const id = (n % 65535) + 1;
  const length = 2 + topic.length + 2 + payload.length;
  return Buffer.concat([
    Buffer.from([0x32, length, 0, topic.length]),
    topic,
    Buffer.from([id >> 8, id & 255]),
    payload,
  ]);
};
const WINDOW = 200;
let sent = 0;
let acknowledged = 0;
let bytes = 0;
const fill = () => {
  const from = sent;
  const packets = [];
  while (sent - acknowledged < WINDOW) packets.push(publish(sent++));
  if (packets.length === 0) return;
  writeSync(1, `S ${from} ${sent - 1}\n`);
  socket.write(Buffer.concat(packets));
};
socket.write(Buffer.from([0x10, 16, 0, 4, 77, 81, 84, 84, 4, 2, 0, 0, 0, 4, 117, 109, 108, 49]));
socket.once('data', () => {
  socket.on('data', (chunk) => {
    bytes += chunk.length;
    const count = Math.floor(bytes / 4);
    bytes -= count * 4;
    if (count === 0) return;
    writeSync(1, `A ${acknowledged} ${acknowledged + count - 1}\n`);
    acknowledged += count;
    fill();
  });
  fill();
});
socket.on('close', () => process.exit(0));
