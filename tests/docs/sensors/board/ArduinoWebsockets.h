// What a sketch sees of the library "ArduinoWebsockets" by Gil Maimon (gilmaimon/ArduinoWebsockets), and what
// goes over the wire: its handshake header by header, its frames under a key of zeroes, as version 0.5.4
// sends them.
#pragma once

#include "WiFiClientSecure.h"

namespace websockets {

struct WebsocketsMessage {
    String text;
    const String &data() const { return text; }
};

class WebsocketsClient {
    WiFiClientSecure line;
    void (*told)(WebsocketsMessage) = nullptr;
    std::string headers, received;
    bool upgraded = false;

    bool send(int opcode, const std::string &payload) {
        if (!available()) return false;
        std::string frame(1, char(0x80 | opcode));
        frame += char(0x80 | payload.size());
        return line.write(frame + std::string(4, 0) + payload);
    }

  public:
    void setCACert(const char *ca) { line.setCACert(ca); }
    void addHeader(const String &name, const String &value) { headers += name + ": " + value + "\r\n"; }
    void onMessage(void (*message)(WebsocketsMessage)) { told = message; }
    bool available() { return upgraded = upgraded && line.connected(); }
    bool connectSecure(const String &host, int port, const String &path) {
        received.clear();
        upgraded = false;
        if (!line.connect(host.c_str(), uint16_t(port))) return false;
        line.write("GET " + path + " HTTP/1.1\r\nHost: " + host +
                   "\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n" + headers +
                   "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "User-Agent: TinyWebsockets Client\r\n"
                   "Origin: https://github.com/gilmaimon/TinyWebsockets\r\n\r\n");
        size_t end;
        while ((end = received.find("\r\n\r\n")) == std::string::npos && line.connected())
            delay(1), received += line.read();
        upgraded = received.rfind("HTTP/1.1 101", 0) == 0;
        if (!upgraded) line.stop();
        else received.erase(0, end + 4);
        return upgraded;
    }
    bool send(const char *text) { return send(1, text); }
    bool ping() { return send(9, ""); }
    bool poll() {
        bool any = false;
        received += available() ? line.read() : "";
        while (available() && received.size() >= 2) {
            size_t length = uint8_t(received[1]) & 0x7f;
            if (received.size() < 2 + length) break;
            int opcode = received[0] & 0x0f;
            std::string payload = received.substr(2, length);
            received.erase(0, 2 + length);
            any = true;
            if (opcode == 1 && told) told({payload});
            if (opcode == 9) send(10, payload);
            if (opcode == 8) send(8, payload), line.stop();
        }
        return any;
    }
};

}  // namespace websockets
