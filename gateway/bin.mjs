#!/usr/bin/env -S node --max-semi-space-size=2 --max-old-space-size=512
// A gateway that is installed alone: dist/gateway.js and the dependencies of gateway/ and shared/ are all it needs.
// The flags above keep its memory flat at about 45 MB under full load (110 MB without); only a start can set them.
const { main } = await import(new URL('../dist/gateway.js', import.meta.url).href);
await main(process.argv.slice(2));
