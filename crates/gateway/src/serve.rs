//! One port for all faces: accepts connections, and gives each request to the face that it is for.
