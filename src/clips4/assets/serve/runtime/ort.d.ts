// The types of ort.js, which `clips4 export --web` puts here: a file of the npm package onnxruntime-web.

export * from "onnxruntime-web/wasm";
