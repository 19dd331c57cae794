// Elsys's type-length-value payload, in the older form of such codecs.
function Decoder(bytes, port) {
  var data = {};
  var at = 0;
  function u16() { at += 2; return (bytes[at - 2] << 8) | bytes[at - 1]; }
  function u32() { return u16() * 65536 + u16(); }
  function i8() { return (bytes[at++] << 24) >> 24; }
  while (at < bytes.length) {
    switch (bytes[at++]) {
      case 0x01: data.temperature = ((u16() << 16) >> 16) / 10; break;
      case 0x02: data.humidity = bytes[at++]; break;
      case 0x03: data.x = i8(); data.y = i8(); data.z = i8(); break;
      case 0x04: data.light = u16(); break;
      case 0x05: data.motion = bytes[at++]; break;
      case 0x06: data.co2 = u16(); break;
      case 0x0a: data.pulse1 = u16(); break;
      case 0x0b: data.pulseAbs = u32(); break;
      case 0x0e: data.distance = u16(); break;
      case 0x11: data.occupancy = bytes[at++]; break;
      case 0x12: data.waterleak = bytes[at++]; break;
      case 0x14: data.pressure = u32() / 1000; break;
      case 0x15: data.soundPeak = bytes[at++]; data.soundAvg = bytes[at++]; break;
      default: throw new Error('type ' + bytes[at - 1] + ' is not known');
    }
  }
  return data;
}
