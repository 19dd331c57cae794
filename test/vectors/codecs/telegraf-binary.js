// Telegraf's binary test messages: little endian, told apart by their third byte.
function decodeUplink(input) {
  var view = new DataView(new Uint8Array(input.bytes).buffer);
  var end = view.byteLength;
  var data = { time: view.getBigInt64(end - 8, true) };
  switch (view.getUint8(2)) {
    case 0x0a:
      data.measurement = 'metricA';
      data.failure = (view.getUint8(3) & 1) === 1;
      data.address = String(view.getUint16(4, true));
      data.count = view.getUint32(6, true);
      data.value = view.getFloat64(12, true);
      break;
    case 0x0b:
      data.measurement = 'metricB';
      data.value = view.getUint32(4, true);
      break;
    case 0x0c:
      data.measurement = 'metricC';
      data.x = view.getFloat32(4, true);
      data.y = view.getFloat32(8, true);
      break;
    default:
      return { errors: ['unknown message'] };
  }
  return { data: data };
}
