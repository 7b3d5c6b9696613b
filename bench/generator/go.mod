module mizzen.example/generator

go 1.23
