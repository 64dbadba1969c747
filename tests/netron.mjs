// Opens model files with Netron's own code, without a browser: node netron.mjs FOLDER FILE...
// FOLDER has Netron's JavaScript. One line of JSON for each file: what Netron sees of it, or its error.

import * as fs from 'node:fs';
import * as path from 'node:path';
import * as url from 'node:url';

const [folder, ...files] = process.argv.slice(2);
const load = (name) => import(url.pathToFileURL(path.join(folder, name)).href);
const { BinaryStream } = await load('base.js');
const { ModelFactoryService } = await load('view.js');

const host = {
    environment: () => null,
    event: () => {},
    exception: (error) => { throw error; },
    require: (id) => load(`${id}.js`),
    asset: async (file) => fs.readFileSync(path.join(folder, file), 'utf-8')
};

const context = (file) => {
    const stream = new BinaryStream(new Uint8Array(fs.readFileSync(file)));
    return {
        identifier: path.basename(file), name: path.basename(file), stream, entries: new Map(),
        request: (name) => host.asset(name), asset: host.asset, require: host.require, error: host.exception, host
    };
};

// The names of what a node reads or makes, and of a constant its type, shape and how many bytes Netron finds.
const values = (list) => list.flatMap((argument) => argument.value.map((value) => value && {
    name: value.name,
    type: value.type && String(value.type.dataType || value.type),
    shape: value.type && value.type.shape && Array.from(value.type.shape.dimensions, Number),
    quantization: value.quantization ? { scale: Array.from(value.quantization.scale || []), offset: Array.from(value.quantization.offset || [], Number) } : null,
    bytes: value.initializer && value.initializer.values ? value.initializer.values.length : 0
}));

for (const file of files) {
    try {
        const model = await new ModelFactoryService(host).open(context(file));
        const graphs = model.modules.map((graph) => ({
            name: graph.name, inputs: values(graph.inputs), outputs: values(graph.outputs),
            nodes: graph.nodes.map((node) => ({
                type: node.type.name, inputs: values(node.inputs), outputs: values(node.outputs),
                attributes: Object.fromEntries(node.attributes.map((attribute) => [attribute.name, String(attribute.value)]))
            }))
        }));
        process.stdout.write(`${JSON.stringify({ format: model.format, graphs })}\n`);
    } catch (error) {
        process.stdout.write(`${JSON.stringify({ error: error.stack || String(error) })}\n`);
    }
}
