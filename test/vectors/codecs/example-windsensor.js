var directions = ['N', 'E', 'S', 'W'];
function decodeUplink(input) {
  if (input.fPort !== 1) return { errors: ['unknown FPort'] };
  return { data: { direction: directions[input.bytes[0]], speed: input.bytes[1] } };
}
