// Greets whoever the event names: the event is on standard input, the answer on
// standard output, and what is written to standard error becomes the log.
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <string>

int main() {
    std::string name{std::istreambuf_iterator<char>{std::cin}, {}};
    name.erase(name.find_last_not_of(" \t\r\n") + 1);
    const char* const id = std::getenv("FC_REQUEST_ID");
    std::cerr << (id ? id : "-") << " greeting '" << name << "'\n";
    if (name.empty()) {
        std::cerr << "there is nobody to greet\n";
        return EXIT_FAILURE;
    }
    std::cout << "Hello, " << name << '!';
}
