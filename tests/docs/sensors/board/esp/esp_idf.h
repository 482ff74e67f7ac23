// What a program finds in ESP-IDF, on Linux: as much of it as docs/sensors/esp-idf.md uses, in one thread.
// The client sends what esp_websocket_client 1.8 over tcp_transport sends (espressif/esp-protocols and
// esp-idf): its handshake header by header, frames of at most 1,024 bytes, head and payload in two writes.
#pragma once

#include "../WiFiClientSecure.h"
#include <csignal>
#include <deque>

#define ESP_ERROR_CHECK(call) (void)(call)
#define ESP_LOGW(tag, ...) (printf("%s: ", tag), printf(__VA_ARGS__), puts(""), fflush(stdout))
#define pdMS_TO_TICKS(ms) (ms)
#define portMAX_DELAY 0xffffffff
typedef const char *esp_event_base_t;
inline int nvs_flash_init() { return 0; }
inline int esp_netif_init() { return 0; }
inline int esp_event_loop_create_default() { return 0; }
inline int example_connect() { return 0; }
inline int64_t esp_timer_get_time() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

enum {
    WEBSOCKET_EVENT_ANY = -1, WEBSOCKET_EVENT_CONNECTED = 1, WEBSOCKET_EVENT_DISCONNECTED,
    WEBSOCKET_EVENT_DATA, WEBSOCKET_EVENT_CLOSED,
};
struct esp_websocket_event_data_t {
    const char *data_ptr;
    int data_len;
    uint8_t op_code;
};
struct esp_websocket_client_config_t {
    const char *uri, *cert_pem, *subprotocol, *headers;
    int pingpong_timeout_sec, reconnect_timeout_ms, ping_interval_sec;
    bool enable_close_reconnect;
};
typedef void (*esp_event_handler_t)(void *, esp_event_base_t, int32_t, void *);

class IdfClient {
    esp_websocket_client_config_t config;
    std::string host, path, received;
    uint16_t port;
    WiFiClientSecure line;
    bool upgraded = false, over = false;
    int64_t tried = 0;

    void tell(int32_t id, int opcode = 0, const std::string &text = "") {
        esp_websocket_event_data_t data{text.data(), int(text.size()), uint8_t(opcode)};
        handler(nullptr, "", id, &data);
    }

    void down(int32_t id) {
        line.stop();
        upgraded = false, tried = esp_timer_get_time(), received.clear();
        tell(id);
    }

    void connect() {
        tried = esp_timer_get_time();
        if (!line.connect(host.c_str(), port)) return tell(WEBSOCKET_EVENT_DISCONNECTED);
        line.write("GET " + path + " HTTP/1.1\r\nConnection: Upgrade\r\nHost: " + host + ":" +
                   std::to_string(port) + "\r\nUser-Agent: ESP32 Websocket Client\r\nUpgrade: websocket\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: q83vASNFZ4mrze8BI0VniQ==\r\n"
                   "Sec-WebSocket-Protocol: " + config.subprotocol + "\r\n" + config.headers + "\r\n");
        size_t end;
        while ((end = received.find("\r\n\r\n")) == std::string::npos && line.connected())
            delay(1), received += line.read();
        if (received.rfind("HTTP/1.1 101", 0)) {
            std::string status = received.substr(0, 12).substr(9);
            ESP_LOGW("websocket_client", "esp_ws_handshake_status_code=%s", status.c_str());
            return down(WEBSOCKET_EVENT_DISCONNECTED);
        }
        received.erase(0, end + 4);
        upgraded = true;
        tell(WEBSOCKET_EVENT_CONNECTED);
    }

    bool frame(int first, std::string payload) {
        std::string header(1, char(first));
        if (payload.size() < 126) {
            header += char(0x80 | payload.size());
        } else {
            header += char(0xfe);
            header += char(payload.size() >> 8);
            header += char(payload.size());
        }
        uint32_t random = esp_random();
        std::string key((char *)&random, 4);
        for (size_t at = 0; at < payload.size(); at++) payload[at] ^= key[at % 4];
        return line.write(header + key) && (payload.empty() || line.write(payload));
    }

  public:
    esp_event_handler_t handler = nullptr;

    explicit IdfClient(const esp_websocket_client_config_t &given) : config(given) {
        std::string rest = std::string(config.uri).substr(strlen("wss://"));
        size_t colon = rest.find(':'), slash = rest.find('/');
        host = rest.substr(0, colon), path = rest.substr(slash), port = uint16_t(atoi(&rest[colon + 1]));
        line.setCACert(config.cert_pem);
    }

    int send(int opcode, const std::string &text) {
        if (!upgraded) return -1;
        size_t at = 0;
        do {
            std::string piece = text.substr(at, 1024);
            at += piece.size();
            if (!frame((at == text.size() ? 0x80 : 0) | opcode, piece)) return down(WEBSOCKET_EVENT_DISCONNECTED), -1;
            opcode = 0;
        } while (at < text.size());
        return int(text.size());
    }

    void poll() {
        if (over) return;
        if (!line.connected()) {
            if (upgraded) return down(WEBSOCKET_EVENT_DISCONNECTED);
            if (!tried || esp_timer_get_time() - tried > config.reconnect_timeout_ms * 1000) connect();
            return;
        }
        received += line.read();
        while (received.size() >= 2) {
            size_t length = uint8_t(received[1]) & 0x7f, header = 2;
            if (length == 126) {
                if (received.size() < 4) return;
                length = uint8_t(received[2]) << 8 | uint8_t(received[3]), header = 4;
            }
            if (received.size() < header + length) return;
            int opcode = received[0] & 0x0f;
            std::string payload = received.substr(header, length);
            received.erase(0, header + length);
            tell(WEBSOCKET_EVENT_DATA, opcode, payload);
            if (opcode == 9) frame(0x8a, payload);
            if (opcode == 8) {
                frame(0x88, "");
                over = !config.enable_close_reconnect;
                return down(WEBSOCKET_EVENT_CLOSED);
            }
        }
    }
};

typedef IdfClient *esp_websocket_client_handle_t;
inline IdfClient *the_client;
inline esp_websocket_client_handle_t esp_websocket_client_init(const esp_websocket_client_config_t *config) {
    return new IdfClient(*config);
}
inline void esp_websocket_register_events(IdfClient *client, int, esp_event_handler_t handler, void *) {
    client->handler = handler;
}
inline void esp_websocket_client_start(IdfClient *client) { the_client = client; }
inline int esp_websocket_client_send_text(IdfClient *client, const char *text, int length, uint32_t) {
    return client->send(1, std::string(text, length));
}

struct Queue {
    size_t size;
    std::deque<std::string> items;
};
typedef Queue *QueueHandle_t;
inline QueueHandle_t xQueueCreate(int, size_t size) { return new Queue{size, {}}; }
inline void xQueueSend(QueueHandle_t queue, const void *item, uint32_t) {
    queue->items.emplace_back((const char *)item, queue->size);
}
// Where a task waits, the client's own task has its turn.
inline bool xQueueReceive(QueueHandle_t queue, void *item, uint32_t ms) {
    for (uint32_t begun = millis(); queue->items.empty() && millis() - begun < ms; delay(1)) the_client->poll();
    if (queue->items.empty()) return false;
    memcpy(item, queue->items.front().data(), queue->size);
    queue->items.pop_front();
    return true;
}

void app_main(void);
int main() {
    signal(SIGPIPE, SIG_IGN);
    app_main();
}
