// The same under TLS, which trusts one authority and looks at the name, as mbedTLS does on a board.
#pragma once

#include "WiFi.h"
#include <openssl/pem.h>
#include <openssl/ssl.h>

class WiFiClientSecure : public WiFiClient {
    const char *ca = nullptr;
    SSL_CTX *context = nullptr;
    SSL *tls = nullptr;

    void forget() {
        SSL_free(tls), SSL_CTX_free(context);
        tls = nullptr, context = nullptr;
    }

  public:
    ~WiFiClientSecure() override { forget(); }
    void setCACert(const char *pem) { ca = pem; }
    bool connect(const char *host, uint16_t port) override {
        stop();
        if (!ca || !WiFiClient::connect(host, port)) return false;
        BIO *text = BIO_new_mem_buf(ca, -1);
        X509 *authority = PEM_read_bio_X509(text, nullptr, nullptr, nullptr);
        BIO_free(text);
        if (!authority) return false;
        context = SSL_CTX_new(TLS_client_method());
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority);
        X509_free(authority);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
        // What is not a message (a ticket) must not make a read wait for one.
        SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
        tls = SSL_new(context);
        SSL_set_tlsext_host_name(tls, host);
        SSL_set1_host(tls, host);
        SSL_set_fd(tls, fd);
        if (SSL_connect(tls) == 1) return true;
        stop();
        return false;
    }
    bool write(const std::string &bytes) override {
        return tls && SSL_write(tls, bytes.data(), int(bytes.size())) == int(bytes.size());
    }
    std::string read() override {
        char first;
        if (!tls) return "";
        if (!SSL_pending(tls) && recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
            return "";
        char bytes[2048];
        int count = SSL_read(tls, bytes, sizeof bytes);
        if (count > 0) return std::string(bytes, count);
        if (SSL_get_error(tls, count) != SSL_ERROR_WANT_READ) stop();
        return "";
    }
    void stop() override {
        forget();
        WiFiClient::stop();
    }
};
