// Protocol Buffers without a schema language: the fields of each message by number, as a user would write them down.
var SCHEMAS = {
  1: { 1: ['metrics', 'repeated', { 1: ['source', 'text'], 2: ['tags_sdkver', 'text'], 3: ['tags_platform', 'text'], 4: ['value', 'double'], 5: ['timestamp', 'int'] }] },
  2: { 1: ['a', 'text'], 2: ['b', 'double'], 3: ['c', 'int'], 4: ['d', 'bool'] },
  3: {
    1: ['final', 'message', {
      1: ['context', 'message', {
        1: ['cwd', 'text'], 2: ['file_name', 'text'], 3: ['function_name', 'text'], 4: ['host_name', 'text'], 5: ['line_number', 'int'],
        6: ['package_name', 'text'], 11: ['process_id', 'int'], 12: ['thread_id', 'int'], 13: ['user_id', 'int'], 14: ['user_name', 'text'], 15: ['application_name', 'text'],
      }],
      2: ['name', 'text'], 3: ['inheritance', 'texts'], 4: ['message', 'text'], 5: ['severity', 'text'], 6: ['time', 'int'], 7: ['parameters', 'map'],
    }],
    10: ['session', 'text'], 11: ['application', 'text'],
  },
};
function utf8(b) { var s = ''; for (var i = 0; i < b.length; i++) s += String.fromCharCode(b[i]); return s; }
function read(b, schema) {
  var at = 0, out = {};
  function varint() { var v = 0n, s = 0n, c; do { c = b[at++]; v |= BigInt(c & 127) << s; s += 7n; } while (c > 127); return v; }
  while (at < b.length) {
    var key = Number(varint()), number = key >> 3, type = key & 7, value;
    if (type === 0) value = varint();
    else { var n = type === 2 ? Number(varint()) : type === 1 ? 8 : 4; value = b.slice(at, at + n); at += n; }
    var field = schema[number];
    if (!field) continue;
    var name = field[0];
    switch (field[1]) {
      case 'text': out[name] = utf8(value); break;
      case 'texts': (out[name] = out[name] || []).push(utf8(value)); break;
      case 'double': out[name] = new DataView(new Uint8Array(value).buffer).getFloat64(0, true); break;
      case 'bool': out[name] = value !== 0n; break;
      case 'int': out[name] = value; break;
      case 'message': out[name] = read(value, field[2]); break;
      case 'repeated': (out[name] = out[name] || []).push(read(value, field[2])); break;
      case 'map': { var e = read(value, { 1: ['k', 'text'], 2: ['v', 'text'] }); (out[name] = out[name] || {})[e.k] = e.v; break; }
    }
  }
  return out;
}
function decodeUplink(input) {
  // gRPC puts five bytes before a message.
  var bytes = input.fPort === 2 ? input.bytes.slice(5) : input.bytes;
  return { data: read(bytes, SCHEMAS[input.fPort]) };
}
