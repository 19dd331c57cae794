"""Home Assistant's own core and MQTT integration, as `hass` starts them, without its page, which needs what a test does not.

Arguments: its folder, the broker's port, a free port for its own HTTP. What a sensor's state becomes is published to echo/.
"""
import asyncio
import sys

from homeassistant import auth, bootstrap, config_entries, core, loader
from homeassistant.setup import async_setup_component


async def main(folder, port, http):
    hass = core.HomeAssistant(folder)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await hass.config_entries.async_initialize()
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [{"type": "homeassistant"}], [])
    assert await async_setup_component(hass, "homeassistant", {})
    own = {"http": {"server_host": "127.0.0.1", "server_port": http}}
    assert await async_setup_component(hass, "http", own)
    status = {"topic": "homeassistant/status", "qos": 1, "retain": True}
    data = {
        "broker": "127.0.0.1", "port": port, "protocol": "5", "client_id": "home",
        "discovery": True, "discovery_prefix": "homeassistant",
        "birth_message": {**status, "payload": "online"},
        "will_message": {**status, "payload": "offline"},
    }
    entry = config_entries.ConfigEntry(
        version=1, minor_version=2, domain="mqtt", title="gateway", source="user", data=data
    )
    await hass.config_entries.async_add(entry)

    @core.callback
    def changed(event):
        state = event.data.get("new_state")
        if state is not None and state.entity_id.startswith("sensor."):
            call = {"topic": "echo/" + state.entity_id, "payload": state.state, "qos": 2}
            hass.async_create_task(hass.services.async_call("mqtt", "publish", call))

    hass.bus.async_listen("state_changed", changed)
    await hass.async_start()
    print("started", entry.state, flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
