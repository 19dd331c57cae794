#!/usr/bin/env node
// A gateway that is installed alone: dist/gateway.js and the dependencies of gateway/ and shared/ are all it needs.
const { main } = await import(new URL('../dist/gateway.js', import.meta.url).href);
await main(process.argv.slice(2));
