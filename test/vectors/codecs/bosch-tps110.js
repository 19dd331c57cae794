// A parking sensor's codec, in the form that LoRaWAN makers publish.
function decodeUplink(input) {
  var b = input.bytes;
  switch (input.fPort) {
    case 1:
      return { data: { type: 'parking status', occupied: b[0] === 1 } };
    case 2:
      return { data: { type: 'heartbeat', occupied: b[0] === 1, temperature: (b[1] << 24) >> 24 } };
    case 3: {
      var codes = [];
      for (var i = 0; i < 12; i += 4) {
        var code = b[i] | (b[i + 1] << 8) | (b[i + 2] << 16);
        if (code !== 0) codes.push(code);
      }
      var causes = { 1: 'watchdog', 2: 'power on', 3: 'system request', 4: 'other' };
      return {
        data: {
          type: 'startup',
          debugCodes: codes,
          firmwareVersion: b[12] + '.' + b[13] + '.' + b[14],
          resetCause: causes[b[15]],
          occupied: b[16] === 1,
        },
      };
    }
    default:
      return { errors: ['unknown FPort'] };
  }
}
