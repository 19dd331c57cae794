// ChirpStack v3's form.
function Decode(fPort, bytes) {
  return {
    distance: (bytes[0] << 8) | bytes[1],
    levelPercentage: bytes[2],
    batteryVoltage: (bytes[3] << 8) | bytes[4],
  };
}
