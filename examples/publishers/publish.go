// Publishes an event:   go run publish.go http URL DATA     go run publish.go redis ADDRESS CHANNEL DATA
package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func publishHTTP(url, data string) (string, error) {
	request, err := http.NewRequest("POST", url, strings.NewReader(data))
	if err != nil {
		return "", err
	}
	key := make([]byte, 16)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "text/plain")
	// With a key, the request can be repeated if there is no response.
	request.Header.Set("Idempotency-Key", fmt.Sprintf("%x", key))
	answer, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return string(body), err
}

// Speaks the protocol of Redis itself, so that it needs no package. A program that publishes more than this uses
// github.com/redis/go-redis.
func publishRedis(address, channel, data string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(5 * time.Second))
	words := []string{"PUBLISH", channel, data}
	fmt.Fprintf(connection, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(connection, "$%d\r\n%s\r\n", len(word), word)
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if err == nil && !strings.HasPrefix(answer, ":") {
		err = fmt.Errorf("Redis: %s", strings.TrimSpace(answer))
	}
	return strings.TrimSpace(strings.TrimPrefix(answer, ":")), err
}

func main() {
	said, err := "", error(nil)
	switch {
	case len(os.Args) == 4 && os.Args[1] == "http":
		said, err = publishHTTP(os.Args[2], os.Args[3])
	case len(os.Args) == 5 && os.Args[1] == "redis":
		said, err = publishRedis(os.Args[2], os.Args[3], os.Args[4])
	default:
		log.Fatal("usage: go run publish.go http URL DATA | redis ADDRESS CHANNEL DATA")
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(said)
}
