function decodeUplink(input) {
  var b = input.bytes;
  var u16 = function (at) { return (b[at] << 8) | b[at + 1]; };
  var battery = ((b[0] & 0x7f) + 20) / 10;
  if (b.length === 10)
    return { data: { battery: battery, co2: (u16(2) * 65536 + u16(4)) / 100, temperature: u16(6) / 100, relativeHumidity: u16(8) / 100 } };
  var data = { battery: battery, charging: (b[0] & 0x80) !== 0, settingsAllowed: true, valid: true };
  if (b.length === 2 || b.length === 6) {
    data.sensorType = 'moisture';
    data.moisture = b[1];
    if (b.length === 6) data.temperature = ((u16(2) << 16) >> 16) / 100;
    return { data: data };
  }
  data.sensorType = 'fillrate';
  data.distance = u16(1);
  if (b.length > 3 && b[3] !== 0) {
    data.errorcode = b[3];
    data.valid = false;
  }
  if (b.length === 8) {
    data.temperature = u16(4) / 100;
    data.relativeHumidity = u16(6) / 100;
  }
  return { data: data };
}
