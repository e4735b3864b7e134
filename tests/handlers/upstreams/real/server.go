// A server on net/http.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func act(event []byte) {
	word, rest, _ := strings.Cut(string(event), " ")
	switch word {
	case "crash":
		os.Exit(3)
	case "hang":
		signal.Ignore(syscall.SIGTERM)
		if err := exec.Command("sleep", "61").Start(); err != nil {
			log.Fatal(err)
		}
		time.Sleep(time.Minute)
	case "wait":
		for _, err := os.Stat(rest); err != nil; _, err = os.Stat(rest) {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func answer(w http.ResponseWriter, r *http.Request) {
	event, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	log.Printf("%s got %d", r.Header.Get("x-fc-request-id"), len(event))
	act(event)
	w.Write(event)
}

func main() {
	http.HandleFunc("/invoke", answer)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("FC_SERVER_PORT"), nil))
}
