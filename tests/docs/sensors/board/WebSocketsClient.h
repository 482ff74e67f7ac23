// What a sketch sees of the library "WebSockets" by Markus Sattler (Links2004/arduinoWebSockets), and what
// goes over the wire: its handshake header by header, its frames with their masks, as version 2.7.3 sends them.
#pragma once

#include "WiFiClientSecure.h"

enum WStype_t { WStype_DISCONNECTED = 1, WStype_CONNECTED, WStype_TEXT, WStype_BIN };

class WebSocketsClient {
    WiFiClientSecure secure;
    WiFiClient open;
    WiFiClient *line = nullptr;
    void (*told)(WStype_t, uint8_t *, size_t) = nullptr;
    std::string host, path, protocol, authorization, received;
    uint16_t port = 0;
    uint32_t failed = 0, wait = 500, pinged = 0, every = 0;
    bool upgraded = false, tried = false;

    void ended(std::string why) {
        line->stop();
        upgraded = false, failed = millis(), received.clear();
        told(WStype_DISCONNECTED, (uint8_t *)(why.empty() ? nullptr : why.data()), why.size());
    }

    void shake_hands() {
        std::string request = "GET " + path + " HTTP/1.1\r\nHost: " + host + ":" + std::to_string(port) +
            "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: o5eiVVO+8fz5eWtSFBPp4g==\r\n";
        if (!protocol.empty()) request += "Sec-WebSocket-Protocol: " + protocol + "\r\n";
        request += "Origin: file://\r\nUser-Agent: arduino-WebSocket-Client\r\n";
        if (!authorization.empty()) request += "Authorization: " + authorization + "\r\n";
        line->write(request + "\r\n");
    }

    bool send(int opcode, std::string payload) {
        if (!upgraded) return false;
        // Up to 1,399 bytes it masks, and writes once; what is longer, or empty, goes under a key of zeroes.
        bool whole = !payload.empty() && payload.size() < 1400;
        uint8_t key[4] = {};
        if (whole)
            for (int at = 0; at < 4; at++) key[at] = uint8_t(esp_random() % 255);
        std::string header(1, char(0x80 | opcode));
        if (payload.size() < 126) {
            header += char(0x80 | payload.size());
        } else {
            header += char(0x80 | 126);
            header += char(payload.size() >> 8);
            header += char(payload.size());
        }
        header.append((char *)key, 4);
        for (size_t at = 0; at < payload.size(); at++) payload[at] ^= key[at % 4];
        if (whole) return line->write(header + payload);
        return line->write(header) && (payload.empty() || line->write(payload));
    }

    void hear_the_answer() {
        size_t end = received.find("\r\n\r\n");
        if (end == std::string::npos) return;
        std::string status = received.substr(9, 3);
        received.erase(0, end + 4);
        if (status != "101") {
            line->write("This is a webSocket client!");
            return ended("WebSocket handshake failed - HTTP " + status);
        }
        upgraded = true;
        told(WStype_CONNECTED, (uint8_t *)path.data(), path.size());
    }

    void hear_frames() {
        while (upgraded && received.size() >= 2) {
            size_t length = uint8_t(received[1]) & 0x7f, header = 2;
            if (length == 126) {
                if (received.size() < 4) return;
                length = uint8_t(received[2]) << 8 | uint8_t(received[3]), header = 4;
            }
            if (received.size() < header + length) return;
            int opcode = received[0] & 0x0f;
            std::string payload = received.substr(header, length);
            received.erase(0, header + length);
            if (opcode == 1) told(WStype_TEXT, (uint8_t *)payload.data(), payload.size());
            if (opcode == 9) send(10, payload);
            if (opcode == 8) {
                send(8, "\x03\xe8");
                return ended("");
            }
        }
    }

  public:
    void begin(const char *to, uint16_t at, const char *url, const char *subprotocol = "arduino") {
        host = to, port = at, path = url, protocol = subprotocol, line = &open;
    }
    void beginSslWithCA(const char *to, uint16_t at, const char *url, const char *ca,
                        const char *subprotocol = "arduino") {
        begin(to, at, url, subprotocol);
        secure.setCACert(ca);
        line = &secure;
    }
    void onEvent(void (*event)(WStype_t, uint8_t *, size_t)) { told = event; }
    void setAuthorization(const char *text) { authorization = text; }
    void setReconnectInterval(unsigned long ms) { wait = uint32_t(ms); }
    void enableHeartbeat(uint32_t ms, uint32_t, uint8_t) { every = ms; }
    bool isConnected() const { return upgraded; }
    bool sendTXT(const char *text) { return send(1, text); }

    void loop() {
        if (!line->connected()) {
            if (upgraded) return ended("Connection lost");
            if (tried && millis() - failed < wait) return;
            tried = true, failed = millis();
            received.clear();
            if (line->connect(host.c_str(), port)) shake_hands();
            return;
        }
        received += line->read();
        if (!upgraded) hear_the_answer();
        hear_frames();
        if (upgraded && every && millis() - pinged > every) pinged = millis(), send(9, "");
    }
};
