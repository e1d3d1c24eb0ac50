/* The program of relay.py, for Windows: sends its arguments, and gives the answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winsock2.h>

static SOCKET server;

static void put(const char *bytes, int length) {
    while (length > 0) {
        int sent = send(server, bytes, length, 0);
        if (sent <= 0) exit(125);
        bytes += sent;
        length -= sent;
    }
}

static int get(void) {
    char byte;
    return recv(server, &byte, 1, 0) == 1 ? (unsigned char)byte : EOF;
}

static int get_number(void) {
    int digit, number = 0;
    while ((digit = get()) >= '0' && digit <= '9') number = number * 10 + digit - '0';
    return number;
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {0};
    WSADATA data;
    char head[64];
    int i, byte, status, errors;
    WSAStartup(MAKEWORD(2, 2), &data);
    server = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_port = htons(PORT);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(server, (struct sockaddr *)&address, sizeof address) != 0) return 126;
    put(head, snprintf(head, sizeof head, "%d\n0\n", argc - 1));
    for (i = 1; i < argc; i++) put(argv[i], (int)strlen(argv[i]) + 1);
    status = get_number();
    errors = get_number();
    while (errors-- > 0 && (byte = get()) != EOF) fputc(byte, stderr);
    while ((byte = get()) != EOF) fputc(byte, stdout);
    fflush(stdout);
    return status;
}
