/** The gateway of ack-early.ts where a command's name comes before its flags. */
process.argv.splice(2, 1);
await import('./ack-early.ts');
