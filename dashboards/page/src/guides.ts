/** Lines that bring a first reading, for each kind of sender. */

export interface Guide {
  title: string;
  text: string;
}

/** `host` is the machine that the page came from: where a gateway runs beside the collector, it listens there. */
export function guidesOf(host: string, page: string): Guide[] {
  const topic = 'home/kitchen/climate';
  return [
    {
      title: 'mosquitto_pub',
      text: `mosquitto_pub -h ${host} -q 1 -t ${topic} -m '{"temperature":21.5}'`,
    },
    {
      title: 'HTTP',
      text: `curl --data '{"temperature":21.5}' '${page}api/v1/ingest?topic=${topic}'`,
    },
    {
      title: 'Python (paho-mqtt 2)',
      text: `import paho.mqtt.client as mqtt

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.connect("${host}", 1883)
client.loop_start()
client.publish("${topic}", '{"temperature": 21.5}', qos=1).wait_for_publish(10)
client.disconnect()`,
    },
    {
      title: 'Node-RED',
      text: `[{"id":"hw-in","type":"inject","z":"","name":"","props":[{"p":"payload"}],"repeat":"10","payload":"{\\"temperature\\":21.5}","payloadType":"json","wires":[["hw-out"]]},
 {"id":"hw-out","type":"mqtt out","z":"","topic":"${topic}","qos":"1","broker":"hw-broker","wires":[]},
 {"id":"hw-broker","type":"mqtt-broker","broker":"${host}","port":"1883"}]`,
    },
    {
      title: 'ESP32 (Arduino, 256dpi/MQTT)',
      text: `#include <WiFi.h>
#include <MQTT.h>
WiFiClient net;
MQTTClient client;
void setup() {
  WiFi.begin("SSID", "PASSWORD");
  while (WiFi.status() != WL_CONNECTED) delay(200);
  client.begin("${host}", net);
  while (!client.connect("kitchen")) delay(500);
}
void loop() {
  client.loop();
  client.publish("${topic}", "{\\"temperature\\":21.5}", false, 1);
  delay(10000);
}`,
    },
    {
      title: 'ESP32 (ESP-IDF)',
      text: `#include "mqtt_client.h"
esp_mqtt_client_config_t config = { .broker.address.uri = "mqtt://${host}" };
esp_mqtt_client_handle_t client = esp_mqtt_client_init(&config);
esp_mqtt_client_start(client);
esp_mqtt_client_enqueue(client, "${topic}", "{\\"temperature\\":21.5}", 0, 1, 0, true);`,
    },
    {
      title: 'Home Assistant (statestream, after its MQTT is set to this gateway)',
      text: `mqtt_statestream:
  base_topic: homeassistant_state
  publish_attributes: false
  publish_timestamps: true`,
    },
  ];
}
