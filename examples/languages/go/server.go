// Greets whoever the event names, as a server.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func greet(w http.ResponseWriter, r *http.Request) {
	event, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := strings.TrimSpace(string(event))
	log.Printf("%s greeting %q", r.Header.Get("x-fc-request-id"), name)
	switch name {
	case "crash":
		log.Fatal("crashing") // net/http would recover from a panic in here
	case "":
		w.Header().Set("x-fc-status", "404")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"errorMessage": "there is nobody to greet", "errorType": "NoName"}`)
	default:
		fmt.Fprintf(w, "Hello, %s!", name)
	}
}

func main() {
	port := os.Getenv("FC_SERVER_PORT")
	if port == "" {
		port = "9000"
	}
	http.HandleFunc("/invoke", greet)
	log.Fatal(http.ListenAndServe(":"+port, nil))
}
