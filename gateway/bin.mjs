#!/usr/bin/env -S node --max-semi-space-size=2 --max-old-space-size=512
// A gateway that is installed alone: dist/gateway.js and the dependencies of gateway/ and shared/ are all it needs.
// The flags above keep its memory flat at about 45 MB under full load (110 MB without); only a start can set them.
// Written so that a Node that is too old reads it, and says so.
const node = process.versions.node;
const [major, minor] = node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 11)) {
  process.stderr.write(`headwater: this is Node ${node}, and 20.11 or later is needed\n`);
  process.exit(1);
}
const built = new URL('../dist/gateway.js', import.meta.url);
import(built.href)
  .then(({ main }) => main(process.argv.slice(2)))
  .catch((error) => {
    // Here and in cli/bin.mjs: one more file could not be opened where none may be.
    const isOfFiles = error.code === 'EMFILE' || error.code === 'ENFILE';
    const advice = isOfFiles
      ? ': this process may open too few; raise the limit (ulimit -n 1024)'
      : '';
    process.stderr.write(`headwater: ${error.message}${advice}\n`);
    process.exit(1);
  });
